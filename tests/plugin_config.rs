//! What the operator sets for a plugin is what the plugin reads; what its manifest does not ask for, it does not get.

use holdfast::plugin::Manifest;
use serde_json::json;

use crate::support::guests::guest;
use crate::support::host::ONE_AGENT;
use crate::support::{Script, TestHost, call, say};

const SETTINGS: &str = "[[plugins.secrets.grants.secrets]]\nuse = \"hmac\"\nname = \"key\"\n\
                        [plugins.secrets.config]\nunits = \"metric\"\ndays = 3\nexact = true\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_reads_what_was_set_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = "id = \"secrets\"\nversion = \"1.0.0\"\n[config]\nunits = \"metric or imperial\"\n[requests]\n\
                    secrets = [{ use = \"hmac\", name = \"key\" }]\n";
    let bytes = std::fs::read(guest("secrets")).expect("a component");
    let with_manifest = folder.path().join("secrets.wasm");
    let bytes = Manifest::parse(manifest).expect("a manifest").embed(bytes);
    std::fs::write(&with_manifest, bytes).expect("a file");
    for (file, expected) in
        [(guest("secrets"), r#"["metric","3","true",null]"#), (with_manifest, r#"["metric",null,null,null]"#)]
    {
        let names = json!({"names": ["units", "days", "exact", "other"]});
        let script = Script::new([call("secrets__settings", names), say("done")]);
        let host = TestHost::with_files(&[file], &format!("{ONE_AGENT}{SETTINGS}"), script).await;
        let run = host.run("go").await;
        assert_eq!(run["tools"][0]["toolOutput"], expected, "{run}");
    }
}
