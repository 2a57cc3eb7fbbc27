"""Work on another host with nothing there but a POSIX shell: the line to it, and the scripts that run at its end."""
