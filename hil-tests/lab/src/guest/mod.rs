//! Small root file systems around the static device binary.
