//! Boot control made from a board's data, on environments that the format itself made: the places are right.

use mainstay_board_support::Board;
use mainstay_bootloader_glue::convention;
use mainstay_core::boot::Group;
use mainstay_core::seam::BootControl;

fn board(folder: &tempfile::TempDir, boot: &str) -> Board {
    let text = format!(
        "compatible = \"bench\"\n[boot]\nlock_file = \"lock\"\n{boot}\n\
         [[slot]]\ngroup = \"A\"\nclass = \"rootfs\"\ndevice = \"disk.img\"\npartition = 1\n\
         [[slot]]\ngroup = \"B\"\nclass = \"rootfs\"\ndevice = \"disk.img\"\npartition = 2\n\
         [watchdog]\nkind = \"none\"\n"
    );
    Board::parse(&text, folder.path().join("board.toml").to_str().unwrap()).unwrap()
}

#[test]
fn the_environment_is_read_and_changed_where_the_board_says_and_nowhere_else() {
    const DISK: usize = 1 << 20;
    #[rustfmt::skip]
    let cases = [
        // [boot]                                                                                      copies begin at
        ("bootloader = \"grub\"\nenvironment = { path = \"disk.img\", offset = 8192 }",                vec![8192]),
        ("bootloader = \"grub\"\nenvironment = { path = \"disk.img\", offset = -1024 }\nconvention = \"rauc\"", vec![DISK - 1024]),
        ("bootloader = \"uboot\"\nenvironment = [{ path = \"disk.img\", offset = 4096, size = 4096 }]", vec![4096]),
        ("bootloader = \"uboot\"\nenvironment = [{ path = \"disk.img\", offset = 4096, size = 4096 }, { path = \"disk.img\", offset = -4096, size = 4096 }]", vec![4096, DISK - 4096]),
        ("bootloader = \"uboot\"\nflags = \"boolean\"\nconvention = \"rauc\"\nenvironment = [{ path = \"disk.img\", size = 4096 }, { path = \"disk.img\", offset = 4096, size = 4096 }]", vec![0, 4096]),
        ("bootloader = \"uboot\"\nconvention = \"bootcount\"\nenvironment = [{ path = \"disk.img\", offset = 4096, size = 4096 }, { path = \"disk.img\", offset = 8192, size = 4096 }]", vec![4096, 8192]),
    ];
    // `flags` belongs to two copies and is asked for after them; the order in the file does not matter.
    for (boot, begins) in cases {
        let folder = tempfile::tempdir().unwrap();
        let board = board(&folder, boot);
        let format = board.environment_format();
        let convention = convention::by_name(board.boot.convention.name(), &format).unwrap();
        let vars = mainstay_bootloader_glue::Vars::default().with(&convention.fresh());
        let copies = format.blank(&vars, convention.names()).unwrap();
        assert_eq!(copies.len(), begins.len());

        let image = folder.path().join("disk.img");
        let mut disk = vec![0xEE; DISK];
        for (copy, begin) in copies.iter().zip(&begins) {
            disk[*begin..*begin + copy.len()].copy_from_slice(copy);
        }
        std::fs::write(&image, &disk).unwrap();

        let mut control = board.open_boot_control().unwrap();
        assert_eq!(control.state().unwrap().select(), Some(Group::A), "{boot}");
        control.arm_trial(Group::B, 1).unwrap();
        assert_eq!(board.open_boot_control().unwrap().state().unwrap().select(), Some(Group::B), "{boot}");

        let mut after = std::fs::read(&image).unwrap();
        assert_eq!(after.len(), DISK);
        for (copy, begin) in copies.iter().zip(&begins) {
            after[*begin..*begin + copy.len()].fill(0xEE);
            disk[*begin..*begin + copy.len()].fill(0xEE);
        }
        assert!(after == disk, "{boot}: a byte outside of the environment has changed");
    }
}

#[test]
fn an_environment_that_is_not_there_is_a_fault_that_names_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let board = board(&folder, "bootloader = \"grub\"\nenvironment = { path = \"grubenv\" }");
    let fault = board.open_boot_control().unwrap().state().unwrap_err();
    assert!(fault.what.contains("grubenv"), "{fault}");
}
