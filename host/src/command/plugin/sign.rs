//! Signing components, and making the keys for it, in the formats of minisign.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox};

use super::say;
use crate::plugin::{Code, KeyId, sign};
use crate::registry::write;

/// How the second line of a secret key begins that has a password: algorithm `Ed`, scrypt, checksum `B2`.
const WITH_PASSWORD: &str = "RWRTY0Iy";

#[derive(Args, Debug)]
pub(in crate::command) struct SignArgs {
    /// The component (.wasm); it is signed in place
    file: PathBuf,
    /// The secret key: of `holdfast plugin keygen`, or of minisign
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    password: PasswordArgs,
}

#[derive(Args, Debug)]
pub(in crate::command) struct KeygenArgs {
    /// Where the secret key goes; the public key goes beside it, with the ending .pub
    #[arg(default_value = "minisign.key")]
    file: PathBuf,
    /// Without a password: whoever gets the file can sign
    #[arg(long, conflicts_with = "password_file")]
    no_password: bool,
    #[command(flatten)]
    password: PasswordArgs,
}

#[derive(Args, Debug)]
struct PasswordArgs {
    /// A file with the key's password. Default: it is asked for on the terminal
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// None = the library asks for it.
    fn read(&self) -> anyhow::Result<Option<String>> {
        let Some(file) = &self.password_file else {
            anyhow::ensure!(
                std::io::stdin().is_terminal(),
                "the key's password cannot be asked for here, because standard input is no terminal: say --password-file"
            );
            return Ok(None);
        };
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

pub(super) async fn run(args: SignArgs) -> anyhow::Result<()> {
    let SignArgs { file, key, password } = args;
    let (folder, stem) = match (file.parent(), file.file_stem().and_then(|stem| stem.to_str())) {
        (Some(folder), Some(stem)) if file.extension().is_some_and(|ending| ending == "wasm") => {
            (folder.to_owned(), stem.to_owned())
        }
        _ => anyhow::bail!("{} is no component: its name must end in .wasm", file.display()),
    };
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let (id, signed, by) = tokio::task::spawn_blocking(move || {
        let (manifest, _) = Code::new(bytes.clone()).read()?;
        let id = manifest.map_or_else(|| stem.clone(), |manifest| manifest.id);
        crate::tool::check_name_part(&id).context("the plugin's id, which is its file's name")?;
        let key = secret_key(&key, &password)?;
        let signed = sign(&bytes, &id, &key)?;
        anyhow::Ok((id, signed, KeyId::from(&PublicKey::from_secret_key(&key)?)))
    })
    .await??;
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    write(&folder, stem, &signed).await.with_context(|| format!("cannot write {}", file.display()))?;
    say(&format!("Signed {} as the plugin {id}, with the key {by}", file.display()))?;
    say(&format!("sha256:{}", Code::new(signed).digest()))
}

fn secret_key(file: &Path, password: &PasswordArgs) -> anyhow::Result<SecretKey> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let has_password = text.lines().nth(1).is_some_and(|line| line.starts_with(WITH_PASSWORD));
    let key = SecretKeyBox::from(text);
    let key =
        if has_password { key.into_secret_key(password.read()?) } else { key.into_unencrypted_secret_key() };
    key.with_context(|| format!("{} cannot be used as a minisign secret key", file.display()))
}

pub(super) async fn keygen(args: KeygenArgs) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || make_key(&args)).await?
}

fn make_key(args: &KeygenArgs) -> anyhow::Result<()> {
    let public_file = args.file.with_extension("pub");
    anyhow::ensure!(
        public_file != args.file,
        "the ending .pub is the public key's: name the secret key's file"
    );
    for file in [&args.file, &public_file] {
        anyhow::ensure!(!file.exists(), "{} is there already, and a key is not replaced", file.display());
    }
    let pair = if args.no_password {
        KeyPair::generate_unencrypted_keypair()?
    } else {
        KeyPair::generate_encrypted_keypair(args.password.read()?)?
    };
    let comment = if args.no_password { "minisign secret key" } else { "minisign encrypted secret key" };
    new_file(&args.file, 0o600, &pair.sk.to_box(Some(comment))?.to_string())?;
    new_file(&public_file, 0o644, &pair.pk.to_box()?.to_string())?;
    say(&format!(
        "Made the key {}: {} signs plugins, keep it to yourself.",
        KeyId::from(&pair.pk),
        args.file.display()
    ))?;
    say("A server loads only what it signed with this in its configuration:")?;
    say(&format!("plugin_signers = [\"{}\"]", pair.pk.to_base64()))
}

fn new_file(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
