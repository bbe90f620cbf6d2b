"""Workers on other hosts: the testbed file, and starting, watching and ending workers over ssh."""
