//! Every board file that is refused, with the line and the words of its error; and the ones that are taken.

use mainstay_board_support::board::{
    Board, Bootloader, Convention, Part, RebootSpec, RunningSpec, WatchdogSpec,
};
use mainstay_core::boot::Group;

/// A good board. The cases below replace one of its lines. Lines are counted from 1.
const GOOD: &str = r#"compatible = "acme-gw100"
[boot]
bootloader = "uboot"
environment = [{ path = "/dev/mmcblk0", offset = 0x400000, size = 0x4000 }]
[[slot]]
group = "A"
class = "rootfs"
device = "/dev/mmcblk0p2"
[[slot]]
group = "B"
class = "rootfs"
device = "/dev/mmcblk0p3"
[watchdog]
kind = "device"
path = "/dev/watchdog"
timeout_s = 60
"#;

fn with(line: usize, text: &str) -> String {
    let lines = GOOD.lines().enumerate().map(|(i, old)| if i + 1 == line { text } else { old });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn a_good_board_is_read_as_it_is_written() {
    let board = Board::parse(GOOD, "/etc/mainstay/board.toml").unwrap();
    assert_eq!(board.compatible, "acme-gw100");
    assert_eq!(board.boot.convention, Convention::Mainstay);
    let Bootloader::UBoot { copies, .. } = &board.boot.bootloader else {
        panic!("{:?}", board.boot.bootloader)
    };
    assert_eq!((copies[0].offset, copies[0].size), (0x40_0000, 0x4000));
    assert_eq!(
        board.boot.running,
        RunningSpec::CommandLine(vec!["mainstay.group".into(), "rauc.slot".into()])
    );
    assert_eq!(board.classes().collect::<Vec<_>>(), ["rootfs"]);
    let slot = board.slot(Group::B, "rootfs").unwrap();
    assert_eq!((slot.device.to_str(), &slot.part, slot.line), (Some("/dev/mmcblk0p3"), &Part::Whole, 9));
    assert_eq!(board.reboot, RebootSpec::System);
    assert_eq!(board.watchdog_timeout_s(), Some(60));
}

#[test]
fn relative_paths_begin_at_the_board_files_folder() {
    let text = with(8, "device = \"disk.img\"").replace("/dev/watchdog", "run/watchdog");
    let board = Board::parse(&text, "/srv/demo/board.toml").unwrap();
    assert_eq!(board.slots[0].device.to_str(), Some("/srv/demo/disk.img"));
    let WatchdogSpec::Device { path, .. } = board.watchdog else { panic!("{:?}", board.watchdog) };
    assert_eq!(path.to_str(), Some("/srv/demo/run/watchdog"));
}

#[test]
fn each_refused_line_is_named_with_what_was_expected_and_found() {
    #[rustfmt::skip]
    let cases: &[(usize, &str, usize, &str, &str)] = &[
        // line replaced, by                                          line, key, words of the error
        (1, "",                                                          1, "compatible", "expected a name of 1 to 64 printable ASCII characters, found nothing"),
        (1, "compatible = \"\"",                                         1, "compatible", "found the text \"\""),
        (1, "compatible = 7",                                            1, "compatible", "found the integer 7"),
        (1, "compatible = \"gw\\u00e4\"",                                1, "compatible", "printable ASCII"),
        (1, "compatible = \"a\"\ncolour = \"red\"",                      2, "colour", "expected one of compatible, boot, slot, watchdog, reboot, gpio; found an unknown key"),
        (1, "compatible = \"a",                                          1, "", "expected TOML 1.0, found"),
        (1, "compatible = \"a\"\ncompatible = \"b\"",                    2, "", "expected TOML 1.0, found: duplicate key"),
        (2, "[boots]",                                                   1, "boot", "expected a table, found nothing"),
        (3, "bootloader = \"lilo\"",                                     3, "boot.bootloader", "expected \"uboot\" or \"grub\", found the text \"lilo\""),
        (3, "",                                                          2, "boot.bootloader", "found nothing"),
        (3, "bootloader = \"grub\"",                                     4, "boot.environment", "expected a table, found an array of 1"),
        (3, "bootloader = \"uboot\"\nconvention = \"mender\"",           4, "boot.convention", "expected \"mainstay\" or \"rauc\" or \"bootcount\", found the text \"mender\""),
        (3, "bootloader = \"grub\"\nconvention = \"bootcount\"",         4, "boot.convention", "expected \"mainstay\" or \"rauc\", found the text \"bootcount\""),
        (3, "bootloader = \"uboot\"\nlockfile = \"/run/x\"",             4, "boot.lockfile", "expected one of bootloader, convention, environment, lock_file, running_file, running_keys; found an unknown key"),
        (3, "bootloader = \"uboot\"\nlock_file = true",                  4, "boot.lock_file", "expected a path, found true"),
        (3, "bootloader = \"uboot\"\nrunning_keys = []",                 4, "boot.running_keys", "found an empty array"),
        (3, "bootloader = \"uboot\"\nrunning_keys = [\"a b\"]",          4, "boot.running_keys[0]", "expected a key without spaces"),
        (3, "bootloader = \"uboot\"\nrunning_keys = [\"a\"]\nrunning_file = \"x\"", 4, "boot.running_keys", "found both"),
        (4, "",                                                          2, "boot.environment", "found nothing"),
        (4, "environment = []",                                          4, "boot.environment", "found an empty array"),
        (4, "environment = \"/dev/mmcblk0\"",                            4, "boot.environment", "expected an array of one { path, offset, size }"),
        (4, "environment = [{ path = \"/e\" }]",                         4, "boot.environment[0].size", "CONFIG_ENV_SIZE, found nothing"),
        (4, "environment = [{ path = \"/e\", size = 64 }]",              4, "boot.environment[0].size", "expected 512 bytes to 16 MiB: CONFIG_ENV_SIZE, found the integer 64"),
        (4, "environment = [{ path = \"/e\", size = \"16 kB\" }]",       4, "boot.environment[0].size", "found the text \"16 kB\""),
        (4, "environment = [{ path = \"/e\", offset = \"-1\", size = 4096 }]", 4, "boot.environment[0].offset", "found the text \"-1\""),
        (4, "environment = [{ path = \"/e\", offset = 0x8000000000000000, size = 4096 }]", 4, "boot.environment[0].offset", "below 2^63"),
        (4, "environment = [{ path = \"/e\", offset = -4096, size = 4096 }, { path = \"/e\", offset = -6144, size = 4096 }]", 4, "boot.environment", "found that they overlap"),
        (4, "environment = [{ path = \"/e\", size = 4096 }, { path = \"/f\", size = 8192 }]", 4, "boot.environment", "expected two copies of one size, found 4096 and 8192 bytes"),
        (4, "environment = [{ path = \"/e\", size = 4096 }]\nflags = \"boolean\"", 5, "boot.flags", "found an unknown key"),
        (4, "environment = [{ path = \"/e\", size = 4096 }, { path = \"/f\", size = 4096 }]\nflags = \"odd\"", 5, "boot.flags", "expected \"incremental\" or \"boolean\", found the text \"odd\""),
        (4, "environment = [{ path = \"/dev/mmcblk0p3\", offset = -4096, size = 4096 }]", 9, "slot[1].device", "found it inside (offset -4096, 4096 bytes)"),
        (4, "environment = [{ path = \"/e\", size = 4096 }, { path = \"/e\", offset = 2048, size = 4096 }]", 4, "boot.environment", "found that they overlap"),
        (4, "environment = [{ path = \"/e\", size = 4096, sectors = 1 }]", 4, "boot.environment[0].sectors", "found an unknown key"),
        (4, "environment = [{ path = \"/dev/mmcblk0p3\", size = 4096 }]", 9, "slot[1].device", "expected a place apart from the bootloader's environment, found it inside (offset 0, 4096 bytes)"),
        (6, "group = \"C\"",                                             6, "slot[0].group", "expected \"A\" or \"B\", found the text \"C\""),
        (6, "",                                                          5, "slot[0].group", "found nothing"),
        (6, "group = \"B\"",                                             9, "slot[1].class", "expected one slot of group B for class rootfs, found another in line 5"),
        (7, "class = \"Root FS\"",                                       7, "slot[0].class", "expected a slot class of 1 to 16 characters"),
        (7, "class = \"seventeen-letters\"",                             7, "slot[0].class", "expected a slot class of 1 to 16 characters"),
        (7, "class = \"kernel\"",                                        5, "slot[0].class", "expected a slot for class kernel in group B too, found it only in group A"),
        (8, "",                                                          5, "slot[0].device", "found nothing"),
        (8, "device = [\"/dev/sda\"]",                                   8, "slot[0].device", "expected a path, found an array of 1"),
        (8, "device = \"/dev/mmcblk0p3\"",                               9, "slot[1].device", "expected a place of its own, found that it overlaps rootfs of group A in line 5"),
        (8, "device = \"/dev/./mmcblk0p3\"",                             9, "slot[1].device", "found that it overlaps rootfs of group A"),
        (8, "device = \"/dev/sda\"\npartition = 0",                      9, "slot[0].partition", "expected a GPT partition: its number (1 to 128), label or PARTUUID, found the integer 0"),
        (8, "device = \"/dev/sda\"\npartition = 2\nsize = 4096",         9, "slot[0].partition", "expected partition, or offset and size, found both"),
        (8, "device = \"/dev/sda\"\noffset = 4096",                      5, "slot[0].size", "expected a size beside offset, found nothing"),
        (8, "device = \"/dev/sda\"\nsize = 4096",                        5, "slot[0].offset", "expected an offset beside size, found nothing"),
        (8, "device = \"/dev/sda\"\noffset = 512\nsize = 4096",          9, "slot[0].offset", "expected a multiple of 4096 bytes, found the integer 512"),
        (8, "device = \"/dev/sda\"\noffset = 4096\nsize = 0",           10, "slot[0].size", "that is not 0, found the integer 0"),
        (8, "device = \"/dev/sda\"\noffset = 4096\nsize = 5000",        10, "slot[0].size", "expected a multiple of 4096 bytes"),
        (8, "device = \"/dev/sda\"\noffset = 0x7ffffffffffff000\nsize = 4096", 10, "slot[0].size", "ends below 2^63"),
        (8, "device = \"/dev/sda\"\nlabel = \"x\"",                      9, "slot[0].label", "expected one of group, class, device, partition, offset, size; found an unknown key"),
        (13, "[watchdogs]",                                                       1, "watchdog", "expected a table; kind = \"none\" says that there is no watchdog, found nothing"),
        (14, "kind = \"soft\"",                                         14, "watchdog.kind", "expected \"device\" or \"simulated\" or \"none\", found the text \"soft\""),
        (14, "kind = \"none\"",                                         15, "watchdog.path", "found an unknown key"),
        (15, "",                                                        13, "watchdog.path", "found nothing"),
        (16, "timeout_s = 0",                                           16, "watchdog.timeout_s", "expected an integer of 1 to 3600, found the integer 0"),
        (16, "timeout_s = 60.5",                                        16, "watchdog.timeout_s", "found the number 60.5"),
        (16, "timeout_s = 60\n[reboot]",                                17, "reboot.kind", "expected kind = \"system\" or a command, found neither"),
        (16, "timeout_s = 60\n[reboot]\nkind = \"halt\"",               18, "reboot.kind", "expected \"system\", found the text \"halt\""),
        (16, "timeout_s = 60\n[reboot]\ncommand = []",                  18, "reboot.command", "found an empty array"),
        (16, "timeout_s = 60\n[reboot]\nkind = \"system\"\ncommand = [\"x\"]", 19, "reboot.command", "found both"),
        (16, "timeout_s = 60\n[gpio]\nled = 1",                         18, "gpio.led", "expected one of status_led, interlock, recovery_button, watchdog_toggle; found an unknown key"),
        (16, "timeout_s = 60\n[gpio]\nstatus_led = 17",                 18, "gpio.status_led", "expected a table, found the integer 17"),
        (16, "timeout_s = 60\n[gpio]\nstatus_led = { line = 17 }",      18, "gpio.status_led.chip", "found nothing"),
        (16, "timeout_s = 60\n[gpio]\nstatus_led = { chip = \"/dev/gpiochip0\", line = 70000 }", 18, "gpio.status_led.line", "expected an integer of 0 to 65535, found the integer 70000"),
        (16, "timeout_s = 60\n[gpio]\nwatchdog_toggle = { chip = \"/dev/gpiochip0\", line = 1 }", 18, "gpio.watchdog_toggle.timeout_s", "found nothing"),
    ];
    for (line, text, at, key, words) in cases {
        let file = with(*line, text);
        let error = match Board::parse(&file, "board.toml") {
            Ok(board) => panic!("line {line} as {text:?} was taken: {board:?}"),
            Err(error) => error,
        };
        let said = error.to_string();
        assert_eq!((error.line as usize, error.key.as_str()), (*at, *key), "line {line} as {text:?}: {said}");
        assert!(error.what.contains(words), "line {line} as {text:?}: {said}");
        assert!(said.starts_with(&format!("board.toml:{at}: ")), "{said}");
    }
}

#[test]
fn ranges_and_partitions_of_one_image_may_lie_side_by_side() {
    let side = "device = \"disk.img\"\noffset = \"1 MiB\"\nsize = \"1 MiB\"";
    let by_side =
        with(8, side).replace("/dev/mmcblk0p3\"", "disk.img\"\noffset = \"2 MiB\"\nsize = \"1 MiB\"");
    assert!(Board::parse(&by_side, "board.toml").is_ok());
    let on_top = with(8, side).replace("/dev/mmcblk0p3\"", "disk.img\"\noffset = \"1 MiB\"\nsize = 4096");
    let error = Board::parse(&on_top, "board.toml").unwrap_err();
    assert!(error.what.contains("found that it overlaps"), "{error}");
    let one = with(8, "device = \"disk.img\"\npartition = \"system-a\"");
    let twice = one.replace("/dev/mmcblk0p3\"", "disk.img\"\npartition = \"SYSTEM-A\"");
    let error = Board::parse(&twice, "board.toml").unwrap_err();
    assert!(error.what.contains("found that it overlaps"), "{error}");
    let env = with(4, "environment = [{ path = \"disk.img\", offset = \"1 MiB\", size = 4096 }]");
    let env = env.replace("/dev/mmcblk0p3\"", "disk.img\"\noffset = \"1 MiB\"\nsize = 4096");
    let error = Board::parse(&env, "board.toml").unwrap_err();
    assert!(error.what.contains("apart from the bootloader's environment"), "{error}");
}

#[test]
fn a_board_file_cut_anywhere_is_refused_with_a_line_or_read_as_it_stands() {
    for length in 0..GOOD.len() {
        match Board::parse(&GOOD[..length], "board.toml") {
            Err(error) => assert!((1..=16).contains(&error.line), "{length}: {error}"),
            // Cut within or after the last number, "60", the rest is a board of its own.
            Ok(board) => assert!(matches!(board.watchdog_timeout_s(), Some(6 | 60)), "{length}"),
        }
    }
}

#[test]
fn a_file_that_is_missing_or_no_text_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board.toml");
    let error = Board::load(&path).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("board.toml: expected a readable file, found: No such file or directory (os error 2)"),
        "{error}"
    );
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(Board::load(&path).unwrap_err().what.contains("expected UTF-8 text"));
}

#[test]
fn the_example_boards_are_good() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            Board::load(&path).unwrap_or_else(|e| panic!("{e}"));
            seen += 1;
        }
    }
    assert!(seen >= 2, "{} holds {seen} boards", folder.display());
}
