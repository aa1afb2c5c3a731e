//! A component that is built here and sent elsewhere says nothing about the machine it was built on.

use crate::support::guests::{GUESTS, PLUGINS, root};

#[test]
fn components_hold_no_path_of_this_machine() {
    let home = holdfast::config::cargo_home().expect("cargo has a home");
    let folders = [root(), home].map(|folder| folder.display().to_string());
    let mut naming = 0;
    for folder in [&*PLUGINS, &*GUESTS] {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).expect("a component");
            let text = String::from_utf8_lossy(&bytes);
            for folder in &folders {
                assert!(!text.contains(folder), "{} names {folder}", path.display());
            }
            // Panic messages are still there, and name their files.
            naming += usize::from(text.contains("/cargo/registry/"));
        }
    }
    assert!(naming > 3, "only {naming} components name a source file");
}
