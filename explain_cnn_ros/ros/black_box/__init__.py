"""The black box: records the seconds before and after each moment that matters. Modules without ROS are named so."""
