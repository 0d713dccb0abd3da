# mainstay-boot.cmd: which group U-Boot boots, and what it costs. For U-Boot with the hush shell.
#
#   mkimage -A arm64 -T script -C none -n mainstay -d mainstay-boot.cmd boot.scr
#
# As boot.scr on the boot partition distro_bootcmd (or bootstd) finds it and sets devtype, devnum and distro_bootpart.
# Needed: CONFIG_HUSH_PARSER, CMD_SETEXPR, CMD_PART, CMD_SLEEP, saveenv into a redundant environment, a generic
# "load" for the groups' file system.
#
# What it does, step by step, stands in src/convention/mainstay.rs (Mainstay::script), which is the model of this file:
#   1  all five variables missing: set the fresh ones
#   2  each group of the order: good: boot it; tries left: take one, save, boot it; a failed load goes on to the next
#   3  nothing came up: recovery, if there is one; wait; put the order's first group last, save, boot it, then the other
#   4  reset
#
# The board says, in its default environment, what differs from these defaults:
#   mainstay_part_A, _B    partitions of the groups                       2, 3
#   mainstay_args          kernel command line before ours                empty
#   mainstay_load          commands: load the group in ${devtype} ${devnum}:${part}; fail if that fails
#   mainstay_go            commands: jump into what mainstay_load loaded
#   mainstay_watchdog      commands: arm a watchdog; run last before the jump, so that it guards the kernel's start
#   mainstay_recovery      commands: boot a recovery system; come back only if that fails
#   mainstay_pause_s       the wait of step 3 in seconds, decimal         300
#   mainstay_rauc          any text: rauc.slot=A|B on the command line, too
# The commands can use ${group} (A or B), ${why} (good, trial, last-resort), ${part}.
#
# What is set with "name=value" is a variable of the shell and is not saved; "setenv" and "setexpr" are saved.
# "x${..}" and "0x${..}" keep test(1) of U-Boot from calling a missing operand true.

part_A=2
part_B=3
pause_s=300
if test "x${mainstay_part_A}" != "x"; then part_A=${mainstay_part_A}; fi
if test "x${mainstay_part_B}" != "x"; then part_B=${mainstay_part_B}; fi
if test "x${mainstay_pause_s}" != "x"; then pause_s=${mainstay_pause_s}; fi

if test "x${BOOT_ORDER}${BOOT_A_LEFT}${BOOT_A_GOOD}${BOOT_B_LEFT}${BOOT_B_GOOD}" = "x"; then
  echo "mainstay: no boot variables: a fresh board, or a lost environment; A is taken to be good"
  setenv BOOT_ORDER "A B"
  setenv BOOT_A_LEFT 0
  setenv BOOT_A_GOOD 1
  setenv BOOT_B_LEFT 0
  setenv BOOT_B_GOOD 0
  saveenv
fi
if test "x${BOOT_ORDER}" = "x"; then setenv BOOT_ORDER "A B"; fi

echo "mainstay: order ${BOOT_ORDER}, A good ${BOOT_A_GOOD} left ${BOOT_A_LEFT}, B good ${BOOT_B_GOOD} left ${BOOT_B_LEFT}"

# One list for both passes over the order: its words were taken when the loop began.
pass=normal
stop=no
for word in ${BOOT_ORDER} last-resort ${BOOT_ORDER}; do
  group=none
  why=none
  if test "${stop}" = "yes"; then
    true
  elif test "${word}" = "last-resort"; then
    pass=last-resort
    echo "mainstay: NOTHING LEFT TO BOOT: no group is good and none has tries left, or none could be loaded."
    if test "x${mainstay_recovery}" != "x"; then
      echo "mainstay: recovery"
      run mainstay_recovery
    fi
    echo "mainstay: each group of the order has another chance, in turns, in ${pause_s} s. Ctrl-C: to the prompt."
    echo "mainstay: to repair by hand, for a group of the order: setenv BOOT_A_LEFT 3; saveenv; reset"
    echo "mainstay: (a group that is not in the order may be half written)"
    if sleep ${pause_s}; then
      if test "x${BOOT_ORDER}" = "xA B"; then
        setenv BOOT_ORDER "B A"
        saveenv
      elif test "x${BOOT_ORDER}" = "xB A"; then
        setenv BOOT_ORDER "A B"
        saveenv
      fi
    else
      stop=yes
    fi
  elif test "${word}" = "A"; then
    if test "${pass}" = "last-resort"; then
      why=last-resort
    elif test "x${BOOT_A_GOOD}" = "x1"; then
      why=good
    elif test 0x${BOOT_A_LEFT} -gt 0 && test 0x${BOOT_A_LEFT} -lt 0xa; then
      if setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1 && saveenv; then why=trial; fi
    fi
    if test "${why}" != "none"; then group=A; part=${part_A}; fi
  elif test "${word}" = "B"; then
    if test "${pass}" = "last-resort"; then
      why=last-resort
    elif test "x${BOOT_B_GOOD}" = "x1"; then
      why=good
    elif test 0x${BOOT_B_LEFT} -gt 0 && test 0x${BOOT_B_LEFT} -lt 0xa; then
      if setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1 && saveenv; then why=trial; fi
    fi
    if test "${why}" != "none"; then group=B; part=${part_B}; fi
  fi

  if test "${group}" != "none"; then
    echo "mainstay: group ${group} (${why}), partition ${part}"
    loaded=no
    if test "x${mainstay_load}" != "x"; then
      if run mainstay_load; then loaded=board; fi
    elif load ${devtype} ${devnum}:${part} ${kernel_addr_r} /boot/Image; then
      loaded=booti
    elif load ${devtype} ${devnum}:${part} ${kernel_addr_r} /boot/zImage; then
      loaded=bootz
    fi
    if test "${loaded}" != "no"; then
      initrd=-
      fdt=${fdtcontroladdr}
      if test "${loaded}" != "board"; then
        if test -e ${devtype} ${devnum}:${part} /boot/board.dtb; then
          if load ${devtype} ${devnum}:${part} ${fdt_addr_r} /boot/board.dtb; then fdt=${fdt_addr_r}; fi
        fi
        if test -e ${devtype} ${devnum}:${part} /boot/initrd.img; then
          if load ${devtype} ${devnum}:${part} ${ramdisk_addr_r} /boot/initrd.img; then
            initrd=${ramdisk_addr_r}:${filesize}
          fi
        fi
      fi
      part uuid ${devtype} ${devnum}:${part} mainstay_uuid
      setenv bootargs "${mainstay_args} root=PARTUUID=${mainstay_uuid} mainstay.group=${group} mainstay.boot=${why}"
      if test "x${mainstay_rauc}" != "x"; then setenv bootargs "${bootargs} rauc.slot=${group}"; fi
      if test "x${mainstay_watchdog}" != "x"; then run mainstay_watchdog; fi
      if test "${loaded}" = "board"; then
        run mainstay_go
      elif test "${loaded}" = "booti"; then
        booti ${kernel_addr_r} ${initrd} ${fdt}
      else
        bootz ${kernel_addr_r} ${initrd} ${fdt}
      fi
      setenv bootargs
      setenv mainstay_uuid
    fi
    echo "mainstay: group ${group} could not be loaded"
  fi
done

if test "${stop}" = "yes"; then
  echo "mainstay: stopped at the console"
else
  reset
fi
