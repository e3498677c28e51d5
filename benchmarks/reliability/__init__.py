"""What kills, full disks, hostile files and faulty envs do to a run."""
