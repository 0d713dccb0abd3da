//! Finds or installs what the laboratory needs: QEMU, kernels, bootloaders.
