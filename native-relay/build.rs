//! Embeds the page (`www/dist`) in the program, if it has been built.

use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

/// A name with this many hexadecimal digits in a row changes with its content.
const HASH_DIGITS_MIN: usize = 12;

fn main() -> io::Result<()> {
    let root = PathBuf::from(var("CARGO_MANIFEST_DIR")?);
    let www = root.join("../www");
    let dist = www.join("dist");
    let mut files = Vec::new();
    if dist.join("index.html").is_file() {
        println!("cargo:rerun-if-changed={}", dist.display());
        walk(&dist, &mut files)?;
        files.sort();
    } else {
        // A missing path would run this at every build.
        println!("cargo:rerun-if-changed={}", www.display());
        println!("cargo:rerun-if-changed=build.rs");
    }
    let mut code = String::from("static FILES: &[File] = &[\n");
    for file in &files {
        entry(&mut code, &dist, file)?;
    }
    code.push_str("];\n");
    fs::write(Path::new(&var("OUT_DIR")?).join("page_files.rs"), code)
}

fn var(name: &str) -> io::Result<String> {
    std::env::var(name).map_err(io::Error::other)
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn entry(code: &mut String, dist: &Path, file: &Path) -> io::Result<()> {
    let name = file.strip_prefix(dist).map_err(io::Error::other)?;
    let name = name
        .to_str()
        .ok_or_else(|| io::Error::other("a file's name is no UTF-8"))?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(file)?);
    let written = writeln!(
        code,
        "    File {{ path: {name:?}, content_type: {:?}, etag: {:?}, is_hashed: {}, bytes: include_bytes!({:?}) }},",
        content_type(name),
        format!("\"{:016x}\"", hasher.finish()),
        is_hashed(name),
        file.display().to_string(),
    );
    written.map_err(io::Error::other)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "wasm" => "application/wasm",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "txt" | "ts" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn is_hashed(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or_default();
    let mut runs = name.split(|letter: char| !letter.is_ascii_hexdigit());
    runs.any(|run| run.len() >= HASH_DIGITS_MIN)
}
