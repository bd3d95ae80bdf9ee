"""The networks: layers, weights files, precision, and fast convolutions. This room imports no other room."""
