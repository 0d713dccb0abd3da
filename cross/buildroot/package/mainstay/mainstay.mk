################################################################################
#
# mainstay
#
################################################################################

MAINSTAY_VERSION = v0.1.0
MAINSTAY_SITE = $(call qstrip,$(BR2_PACKAGE_MAINSTAY_SITE))
# Not "local": Buildroot vendors the crates when it downloads, and only then.
MAINSTAY_SITE_METHOD = git
MAINSTAY_LICENSE = MIT or Apache-2.0
MAINSTAY_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE

# cargo is started there; it finds the workspace, its profile and its Cargo.lock above.
MAINSTAY_SUBDIR = agent/daemon

define MAINSTAY_INSTALL_FILES
	$(INSTALL) -D -m 0755 $(@D)/cross/package/end-trial $(TARGET_DIR)/usr/lib/mainstay/end-trial
	$(INSTALL) -D -m 0644 $(@D)/cross/package/tmpfiles.conf $(TARGET_DIR)/usr/lib/tmpfiles.d/mainstay.conf
	$(INSTALL) -D -m 0644 $(@D)/cross/package/mainstay.Agent1.conf $(TARGET_DIR)/usr/share/dbus-1/system.d/mainstay.Agent1.conf
	$(INSTALL) -D -m 0644 $(@D)/cross/package/mainstay.toml $(TARGET_DIR)/etc/mainstay/mainstay.toml
	$(INSTALL) -D -m 0644 $(@D)/cross/package/board.toml $(TARGET_DIR)/etc/mainstay/board.toml
endef
MAINSTAY_POST_INSTALL_TARGET_HOOKS += MAINSTAY_INSTALL_FILES

define MAINSTAY_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/cross/package/mainstay.service $(TARGET_DIR)/usr/lib/systemd/system/mainstay.service
endef

define MAINSTAY_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(MAINSTAY_PKGDIR)/S90mainstay $(TARGET_DIR)/etc/init.d/S90mainstay
endef

$(eval $(cargo-package))
