"""Recordings, images and videos: readers and a writer that need no ROS."""
