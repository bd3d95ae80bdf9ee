"""After the run: recordings -> tables, an annotated recording, and a report. Needs no ROS."""
