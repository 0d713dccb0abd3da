# U-Boot for the arm64 board of the laboratory, on top of Debian's source and qemu_arm64_defconfig:
# the environment in one copy at a raw offset of an (e)MMC, and U-Boot's own boot counter. Else as uboot-redundant.frag.
# What kconfig does not take over of it is an error of the build, see src/provision/uboot.rs.

# The medium: QEMU's sdhci-pci with an sd-card; Linux has it as /dev/mmcblk0. At most 64 KiB by one command: QEMU moves them while the
# guest writes the command. More than that it moves later, a busy computer then keeps U-Boot from its registers for more than
# the second that it waits, and at a 512 KiB boundary QEMU's SDMA stops for ever.
CONFIG_MMC=y
CONFIG_DM_MMC=y
CONFIG_MMC_PCI=y
CONFIG_MMC_SDHCI=y
CONFIG_MMC_SDHCI_SDMA=y
CONFIG_SYS_MMC_MAX_BLK_COUNT=128
CONFIG_CMD_MMC=y
# It hangs on PCI, which has to be there before the environment is read. (With -DCONFIG_SYS_EARLY_PCI_INIT=1, no kconfig.)
CONFIG_PCI_INIT_R=y

# The environment: one copy of 16 KiB at 1 MiB of the first MMC; a power cut while it is saved may lose it.
CONFIG_ENV_IS_IN_MMC=y
# CONFIG_ENV_IS_IN_FLASH is not set
CONFIG_SYS_MMC_ENV_DEV=0
CONFIG_ENV_SIZE=0x4000
CONFIG_ENV_OFFSET=0x100000
# CONFIG_SYS_REDUNDAND_ENVIRONMENT is not set

# bootcount, bootlimit and altbootcmd: counted only while the environment says upgrade_available=1, so a boot script that
# counts for itself is not disturbed (U-Boot: doc/README.bootcount).
CONFIG_BOOTCOUNT_LIMIT=y
CONFIG_BOOTCOUNT_ENV=y

# What boot scripts need: file systems, counting, partitions by name, the watchdog by its registers (pci, mw).
CONFIG_CMD_EXT4=y
CONFIG_CMD_FAT=y
CONFIG_CMD_FS_GENERIC=y
CONFIG_CMD_GPT=y
CONFIG_CMD_PART=y
CONFIG_CMD_SETEXPR=y
CONFIG_CMD_SLEEP=y
CONFIG_CMD_PCI=y
CONFIG_CMD_MEMORY=y
CONFIG_CMD_SQUASHFS=y

# An environment that is lost: the factory's default one is taken from the boot partition (src/board/arm64.rs puts it there).
CONFIG_USE_BOOTCOMMAND=y
CONFIG_BOOTCOMMAND="if load mmc 0:2 ${scriptaddr} default.env && env import -t ${scriptaddr} ${filesize} && run bootcmd; then true; else sleep 30; reset; fi"

# No wait for a key; no search of USB and no self tests, which cost time at every boot or build.
CONFIG_BOOTDELAY=0
# CONFIG_USE_PREBOOT is not set
# CONFIG_CMD_BOOTEFI_SELFTEST is not set
# CONFIG_CMD_DFU is not set
