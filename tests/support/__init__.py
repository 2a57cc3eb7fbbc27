"""What tests share: stores and archives to test with, doubles and real servers, disks that fail."""
