SUMMARY = "A/B update agent for embedded gateways"
DESCRIPTION = "Writes signed images to the boot group that does not run, proves them, tries them in a trial boot, \
and commits them or falls back. For U-Boot and GRUB; over MQTT, or by hand from a file."
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "\
    file://LICENSE-MIT;md5=fea3ecdf62ea46ad6ff0e0d42cc985a9 \
    file://LICENSE-APACHE;md5=3e802837d4fd87cfe11aed4fa121cbdd \
"

# Where the source is: set it to your copy of the repository, and SRCREV to a commit of it. Crates are downloaded at
# fetch time, each by the checksum that Cargo.lock has for it (mainstay-crates.inc, made from Cargo.lock).
MAINSTAY_URI ?= "git:///path/to/mainstay;protocol=file;branch=main"
SRC_URI = "${MAINSTAY_URI}"
SRCREV ?= "${AUTOREV}"
S = "${WORKDIR}/git"

inherit cargo systemd

require mainstay-crates.inc

CARGO_BUILD_FLAGS += "--package mainstay --bin mainstay"
# Of the integrator: the board's maker writes board.toml, the plant mainstay.toml, the fleet trust.root.
FILESEXTRAPATHS:prepend := "${THISDIR}/files:"

SYSTEMD_SERVICE:${PN} = "mainstay.service"

do_install() {
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/mainstay ${D}${bindir}/mainstay
    install -D -m 0644 ${S}/cross/package/mainstay.service ${D}${systemd_system_unitdir}/mainstay.service
    install -D -m 0755 ${S}/cross/package/end-trial ${D}${nonarch_libdir}/mainstay/end-trial
    install -D -m 0644 ${S}/cross/package/tmpfiles.conf ${D}${nonarch_libdir}/tmpfiles.d/mainstay.conf
    install -D -m 0644 ${S}/cross/package/mainstay.Agent1.conf ${D}${datadir}/dbus-1/system.d/mainstay.Agent1.conf
    install -D -m 0644 ${S}/cross/package/mainstay.toml ${D}${sysconfdir}/mainstay/mainstay.toml
    install -D -m 0644 ${S}/cross/package/board.toml ${D}${sysconfdir}/mainstay/board.toml
}

FILES:${PN} += "\
    ${nonarch_libdir}/mainstay \
    ${nonarch_libdir}/tmpfiles.d/mainstay.conf \
    ${datadir}/dbus-1/system.d/mainstay.Agent1.conf \
"
CONFFILES:${PN} = "${sysconfdir}/mainstay/mainstay.toml ${sysconfdir}/mainstay/board.toml"
