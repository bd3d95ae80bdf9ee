"""Recordings (rosbag2): reading them without ROS, and playing them into a ROS graph."""
