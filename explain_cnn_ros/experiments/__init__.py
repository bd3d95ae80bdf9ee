"""The paper's experiments, and questions that it leaves open. Needs no ROS."""
