"""Systemd nodes on this machine, made with systemd-nspawn, for the quick start and for Molecule."""
