"""The ROS side: node, parameters, conversions. Everything else in the package runs without ROS."""
