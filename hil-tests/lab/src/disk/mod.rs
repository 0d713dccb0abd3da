//! Disk images, made and read back without root.
