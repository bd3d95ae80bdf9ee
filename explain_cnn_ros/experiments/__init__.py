"""The experiments of the paper and further experiments. This room needs no ROS."""
