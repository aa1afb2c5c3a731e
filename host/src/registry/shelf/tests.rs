//! A shelf over a folder and a database of its own.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::plugin::tests::guest::Guest;
use crate::plugin::tests::{Home, home};

struct Desk {
    shelf: Shelf,
    folder: TempDir,
    home: Home,
}

impl Desk {
    async fn new(settings: BTreeMap<String, PluginSettings>) -> Self {
        let (home, folder) = (home().await, tempfile::tempdir().unwrap());
        let shelf = Self::shelf(&home, folder.path(), settings);
        Self { shelf, folder, home }
    }

    fn shelf(home: &Home, folder: &Path, settings: BTreeMap<String, PluginSettings>) -> Shelf {
        Shelf::new(home.host.clone(), home.store.clone(), Clock::manual(), folder.to_owned(), settings)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    fn serving(&self) -> Vec<String> {
        self.shelf.load().plugins().iter().map(|plugin| plugin.id().to_owned()).collect()
    }

    fn held(&self) -> Vec<String> {
        let registry = self.shelf.load();
        registry.held().iter().map(|held| format!("{} {}", held.id, held.why.word())).collect()
    }

    async fn revoke(&self, digest: &str) {
        let write = PluginWrite {
            org: OrgId::from("default"),
            plugin: "good".to_owned(),
            digest: digest.to_owned(),
            change: PluginChange::Revoke { reason: "it leaks".to_owned() },
            by: Actor::system(),
            at: Clock::manual().now(),
        };
        assert!(self.home.store.write_plugin(write).await.unwrap());
    }

    fn digest(&self, id: &str) -> String {
        self.shelf.load().plugin(id).unwrap().digest().to_owned()
    }
}

fn other() -> Vec<u8> {
    Guest::new().describing(&[("other", "{\"type\":\"object\"}")]).bytes()
}

#[tokio::test]
async fn one_bad_file_does_not_keep_the_others_out() {
    let mut small = PluginSettings::default();
    small.limits.component_bytes = 99;
    let desk = Desk::new(BTreeMap::from([("big".to_owned(), small)])).await;
    desk.write("good.wasm", &Guest::new().bytes());
    desk.write("other.wasm", &Guest::new().bytes());
    desk.write("big.wasm", &[0; 100]);
    desk.write("a__b.wasm", &Guest::new().bytes());
    desk.write("text.txt", b"no plugin");
    std::fs::create_dir(desk.folder.path().join("dir.wasm")).unwrap();
    // Whoever reads from it waits for ever.
    let pipe = std::process::Command::new("mkfifo").arg(desk.folder.path().join("pipe.wasm")).status();
    assert!(pipe.unwrap().success());

    desk.shelf.refresh().await.unwrap();

    assert_eq!(desk.serving(), ["good", "other"]);
    assert_eq!(desk.held(), ["a__b failed", "big failed", "dir failed", "pipe failed"]);
    let registry = desk.shelf.load();
    for held in registry.held() {
        let (folder, reason) = (desk.folder.path().display().to_string(), held.why.in_words());
        assert!(!reason.contains(&folder), "{reason}");
    }
    let (plugin, spec) = registry.get(&"good__act".parse().unwrap()).unwrap();
    assert_eq!((plugin.id(), spec.name.tool()), ("good", "act"));
    assert!(registry.get(&"good__other".parse().unwrap()).is_none());
}

#[tokio::test]
async fn a_missing_folder_is_an_error_and_not_an_empty_registry() {
    let desk = Desk::new(BTreeMap::new()).await;
    desk.write("good.wasm", &Guest::new().bytes());
    desk.shelf.refresh().await.unwrap();
    std::fs::remove_dir_all(desk.folder.path()).unwrap();
    assert!(matches!(desk.shelf.look_again().await, Err(ShelfError::Folder { .. })));
    assert_eq!(desk.serving(), ["good"], "what was loaded stays");
    assert!(!desk.shelf.look_again().await.unwrap(), "and is said once");
}

#[tokio::test]
async fn only_what_changed_is_loaded_again() {
    let desk = Desk::new(BTreeMap::new()).await;
    desk.write("good.wasm", &Guest::new().bytes());
    desk.write("same.wasm", &Guest::new().bytes());
    desk.shelf.refresh().await.unwrap();
    let before = desk.shelf.load_full();
    assert!(!desk.shelf.look_again().await.unwrap(), "nothing has changed");
    desk.write("good.wasm", &other());
    assert!(desk.shelf.look_again().await.unwrap());
    let after = desk.shelf.load_full();
    assert!(Arc::ptr_eq(before.plugin("same").unwrap(), after.plugin("same").unwrap()));
    assert_ne!(before.plugin("good").unwrap().digest(), after.plugin("good").unwrap().digest());
}

#[tokio::test]
async fn a_file_that_could_not_be_read_is_tried_again() {
    let desk = Desk::new(BTreeMap::new()).await;
    // A file to look at, and an error to read from.
    std::os::unix::fs::symlink("/proc/self/mem", desk.folder.path().join("odd.wasm")).unwrap();
    desk.shelf.refresh().await.unwrap();
    assert_eq!(desk.held(), ["odd failed"]);
    let tried = async || desk.shelf.0.seen.lock().await.passing.unwrap();
    let first = tried().await;
    desk.shelf.0.clock.advance(AGAIN_AFTER / 2);
    assert!(!desk.shelf.look_again().await.unwrap());
    assert_eq!(tried().await, first);
    desk.shelf.0.clock.advance(AGAIN_AFTER / 2);
    assert!(!desk.shelf.look_again().await.unwrap(), "there is nothing to tell");
    assert!(tried().await > first);
    std::fs::remove_file(desk.folder.path().join("odd.wasm")).unwrap();
    desk.write("odd.wasm", b"broken");
    assert!(desk.shelf.look_again().await.unwrap());
    assert_eq!(desk.shelf.0.seen.lock().await.passing, None, "only another file helps");
}

#[tokio::test]
async fn a_broken_update_leaves_the_version_that_serves_after_a_restart_too() {
    let desk = Desk::new(BTreeMap::new()).await;
    desk.write("good.wasm", &Guest::new().bytes());
    desk.shelf.refresh().await.unwrap();
    let digest = desk.digest("good");
    desk.write("good.wasm", b"broken");
    desk.shelf.refresh().await.unwrap();
    assert_eq!((desk.held(), desk.digest("good")), (vec!["good failed".to_owned()], digest.clone()));
    let again = Desk::shelf(&desk.home, desk.folder.path(), BTreeMap::new());
    again.refresh().await.unwrap();
    assert_eq!(again.load().plugin("good").unwrap().digest(), digest);
}

#[tokio::test]
async fn old_versions_are_found_until_they_are_idle() {
    let desk = Desk::new(BTreeMap::new()).await;
    desk.write("good.wasm", &Guest::new().bytes());
    desk.shelf.refresh().await.unwrap();
    let (tool, old) = ("good__act".parse().unwrap(), desk.digest("good"));
    desk.write("good.wasm", &other());
    desk.shelf.refresh().await.unwrap();
    let there = async || matches!(desk.shelf.plugin_for(&tool, &old).await.unwrap(), Version::There(_));
    assert!(there().await);
    desk.shelf.tidy().await.unwrap();
    assert!(there().await, "it became idle a moment ago only");
    desk.shelf.tidy().await.unwrap();
    assert!(!there().await);
    assert_eq!(desk.home.store.components().await.unwrap().len(), 1, "what serves stays");
}

#[tokio::test]
async fn a_revoked_version_is_loaded_from_nowhere() {
    let desk = Desk::new(BTreeMap::new()).await;
    desk.write("good.wasm", &Guest::new().bytes());
    desk.shelf.refresh().await.unwrap();
    let (tool, old) = ("good__act".parse().unwrap(), desk.digest("good"));
    desk.write("good.wasm", &other());
    desk.shelf.refresh().await.unwrap();
    desk.revoke(&old).await;
    assert!(matches!(desk.shelf.plugin_for(&tool, &old).await.unwrap(), Version::Revoked));
    desk.write("good.wasm", &Guest::new().bytes());
    assert!(desk.shelf.look_again().await.unwrap());
    assert_eq!((desk.held(), desk.serving()), (vec!["good revoked".to_owned()], vec!["good".to_owned()]));
    assert_ne!(desk.digest("good"), old, "the version before it serves");
    let last = desk.digest("good");
    desk.revoke(&last).await;
    assert!(desk.shelf.look_again().await.unwrap());
    assert!(desk.serving().is_empty());
}
