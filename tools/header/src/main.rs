//! Writes `include/netring.h` from the crate's sources, with cbindgen.
//!
//!     netring-header ROOT            write ROOT/include/netring.h
//!     netring-header ROOT --check    compare with it: exit 1 and a diff when it differs
//!
//! Every public `netring_*` and `NETRING_*` item at the top level of a file under `src/` (and what
//! cbindgen.toml renames to such a name) lands in the header, and nothing else: those items are
//! gathered into one file, and cbindgen sees only that. What comes out is put back into the order of
//! the sources, module by module, and checked.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use quote::ToTokens;
use syn::{Expr, Item, Lit, UnOp, Visibility};

/// Modules in the order the header has them; others follow by name.
const ORDER: &[&str] = &[
    "version",
    "error",
    "log",
    "packet",
    "filter",
    "expression",
    "config",
    "namespace",
    "capture_config",
    "capture",
    "event",
    "membership",
    "group",
    "capture_filter",
    "block",
    "cursor",
    "vnet",
    "slot",
    "injector_config",
    "injector",
    "bridge",
    "umem",
    "xdp_config",
    "xdp",
    "queue",
    "xdp_probe",
    "interface",
    "savefile",
    "reader",
];

const GUARD: &str = "NETRING_H";
const INCLUDES: [&str; 2] = ["stddef.h", "stdint.h"];

/// What cbindgen wrote: (name, is it a function) to text.
type Pieces = HashMap<(String, bool), String>;

type Result<T> = std::result::Result<T, String>;

/// What one Rust item becomes in C.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Constant,
    Struct,
    Opaque,
    Alias,
    Function,
}

struct Public {
    name: String,
    kind: Kind,
    /// The value of a constant, as it stands in the source but for `_` and suffix.
    value: String,
    item: Item,
}

struct Module {
    name: String,
    items: Vec<Public>,
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let (root, check) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [root] => (PathBuf::from(root), false),
        [root, "--check"] => (PathBuf::from(root), true),
        _ => {
            eprintln!("usage: netring-header ROOT [--check]");
            return ExitCode::from(2);
        }
    };
    match run(&root, check) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(text) => {
            eprintln!("netring-header: {text}");
            ExitCode::from(2)
        }
    }
}

fn run(root: &Path, check: bool) -> Result<bool> {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml"))?;
    let modules = gather(&root.join("src"), &config.export.rename)?;
    let text = header(config, &modules)?;
    verify(&text)?;
    let path = root.join("include").join("netring.h");
    let present = fs::read_to_string(&path).unwrap_or_default();
    if present == text {
        return Ok(true);
    }
    if check {
        eprintln!("include/netring.h is not what the sources say: run `make header` and commit it");
        diff(&path, &text);
        return Ok(false);
    }
    fs::create_dir_all(root.join("include")).map_err(|e| format!("include: {e}"))?;
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    println!("wrote include/netring.h");
    Ok(true)
}

/// All public items of the C interface, module by module.
fn gather(src: &Path, rename: &HashMap<String, String>) -> Result<Vec<Module>> {
    let mut files = Vec::new();
    rust_files(src, &mut files)?;
    files.sort();
    let mut modules: Vec<Module> = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let parsed = syn::parse_file(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        let mut items = Vec::new();
        for item in parsed.items {
            let public = public(item, rename).map_err(|e| format!("{}: {e}", file.display()))?;
            items.extend(public);
        }
        if items.is_empty() {
            continue;
        }
        let name = module_name(&file);
        match modules.iter_mut().find(|m| m.name == name) {
            Some(module) => module.items.extend(items),
            None => modules.push(Module { name, items }),
        }
    }
    let rank = |name: &str| ORDER.iter().position(|o| *o == name).unwrap_or(ORDER.len());
    modules.sort_by(|a, b| (rank(&a.name), &a.name).cmp(&(rank(&b.name), &b.name)));
    Ok(modules)
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for entry in entries {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.is_dir() {
            rust_files(&path, out)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    Ok(())
}

fn module_name(file: &Path) -> String {
    let stem = |p: &Path| p.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match stem(file) {
        s if s == "mod" => file.parent().map(stem).unwrap_or_default(),
        s => s,
    }
}

/// The item if it belongs to the header.
fn public(mut item: Item, rename: &HashMap<String, String>) -> Result<Option<Public>> {
    let (name, visibility, kind) = match &item {
        Item::Const(i) => (i.ident.to_string(), &i.vis, Kind::Constant),
        Item::Struct(i) if i.attrs.iter().any(|a| a.path().is_ident("repr")) => {
            (i.ident.to_string(), &i.vis, Kind::Struct)
        }
        Item::Struct(i) => (i.ident.to_string(), &i.vis, Kind::Opaque),
        Item::Type(i) => (i.ident.to_string(), &i.vis, Kind::Alias),
        Item::Fn(i) => (i.sig.ident.to_string(), &i.vis, Kind::Function),
        _ => return Ok(None),
    };
    let name = rename.get(&name).cloned().unwrap_or(name);
    let ours = name.starts_with("netring_") || name.starts_with("NETRING_");
    let hook = name.starts_with("netring_test_") || name.starts_with("NETRING_TEST_");
    if !ours || hook || !matches!(visibility, Visibility::Public(_)) {
        return Ok(None);
    }
    let mut value = String::new();
    match &mut item {
        Item::Const(i) => value = literal(&i.expr).ok_or_else(|| not_literal(&name))?,
        Item::Fn(i) => *i.block = syn::parse_quote!({ loop {} }),
        _ => {}
    }
    Ok(Some(Public { name, kind, value, item }))
}

fn not_literal(name: &str) -> String {
    format!(
        "{name} must be a plain integer literal: cbindgen copies expressions as text, and C reads \
         them with other types (1 << 40 is an overflow there)"
    )
}

/// `-5`, `0x1_0000u32`, `60` as C writes them.
fn literal(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Lit(l) => match &l.lit {
            Lit::Int(int) => {
                let text = int.token().to_string().replace('_', "");
                let text = text.strip_suffix(int.suffix()).unwrap_or(&text).to_string();
                let c_reads_it = text.starts_with("0x")
                    || text == "0"
                    || (text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0'));
                c_reads_it.then_some(text)
            }
            _ => None,
        },
        Expr::Unary(u) if matches!(u.op, UnOp::Neg(_)) => {
            literal(&u.expr).map(|digits| format!("(-{digits})"))
        }
        _ => None,
    }
}

/// The text of the header.
fn header(mut config: cbindgen::Config, modules: &[Module]) -> Result<String> {
    let before = config.header.take().unwrap_or_default();
    let after_includes = config.after_includes.take().unwrap_or_default();
    let trailer = config.trailer.take().unwrap_or_default();
    let mut found = generate(config, modules)?;

    let mut out = String::new();
    let w = &mut out;
    let _ = writeln!(w, "{}\n\n#ifndef {GUARD}\n#define {GUARD}\n", before.trim());
    for include in INCLUDES {
        let _ = writeln!(w, "#include <{include}>");
    }
    let _ = writeln!(w, "\n{}", after_includes.trim());
    let _ = writeln!(w, "\n#ifdef __cplusplus\nextern \"C\" {{\n#endif");

    let handles = modules.iter().flat_map(|m| &m.items).filter(|i| i.kind == Kind::Opaque);
    let mut first = true;
    for item in handles {
        if std::mem::take(&mut first) {
            let _ = writeln!(w, "\n/* ---- handles ---- */");
        }
        let _ = writeln!(w, "\n{}", take(&mut found, item)?);
    }
    for module in modules {
        let mut last = None;
        for item in module.items.iter().filter(|i| i.kind != Kind::Opaque) {
            if last.is_none() {
                let _ = writeln!(w, "\n/* ---- {} ---- */", module.name.replace('_', " "));
            }
            if !(last == Some(Kind::Constant) && item.kind == Kind::Constant) {
                let _ = writeln!(w);
            }
            let _ = writeln!(w, "{}", take(&mut found, item)?);
            last = Some(item.kind);
        }
    }
    if let Some((name, _)) = found.keys().min() {
        return Err(format!("{name} came out of cbindgen, but is no public item of the interface"));
    }
    if !trailer.is_empty() {
        let _ = writeln!(w, "\n{}", trailer.trim());
    }
    let _ = writeln!(w, "\n#ifdef __cplusplus\n}} /* extern \"C\" */\n#endif");
    let _ = writeln!(w, "\n#endif /* {GUARD} */");
    Ok(out)
}

/// Has cbindgen write all items, and takes the result apart.
fn generate(config: cbindgen::Config, modules: &[Module]) -> Result<Pieces> {
    let mut source = String::new();
    for item in modules.iter().flat_map(|m| &m.items) {
        let _ = writeln!(source, "{}", item.item.to_token_stream());
    }
    let file = env::temp_dir().join(format!("netring-header-{}.rs", std::process::id()));
    fs::write(&file, source).map_err(|e| format!("{}: {e}", file.display()))?;
    let bindings = cbindgen::Builder::new().with_config(config).with_src(&file).generate();
    let _ = fs::remove_file(&file);
    let bindings = bindings.map_err(|e| format!("cbindgen: {e}"))?;
    let mut bytes = Vec::new();
    bindings.write(&mut bytes);
    let text = String::from_utf8(bytes).map_err(|e| e.to_string())?;

    let mut found = HashMap::new();
    for item in pieces(&text) {
        let name = declared(&item).ok_or_else(|| format!("cannot read this piece:\n{item}"))?;
        if found.insert(name.clone(), item).is_some() {
            return Err(format!("{} is declared twice", name.0));
        }
    }
    Ok(found)
}

fn take(found: &mut Pieces, item: &Public) -> Result<String> {
    let key = (item.name.clone(), item.kind == Kind::Function);
    let text = found.remove(&key).ok_or_else(|| {
        format!("{} did not come out of cbindgen: it may use a type C cannot see", item.name)
    })?;
    let (doc, code) = split_doc(&text);
    let doc = safety(doc);
    let code = match item.kind {
        Kind::Constant => format!("#define {} {}", item.name, item.value),
        _ => code.to_string(),
    };
    Ok(one_line(&format!("{doc}{code}")))
}

/// cbindgen puts an empty line between items; there is none inside.
fn pieces(text: &str) -> Vec<String> {
    text.split("\n\n").map(|p| p.trim_matches('\n').to_string()).filter(|p| !p.is_empty()).collect()
}

/// The comment before a declaration (with its line end) and the declaration.
fn split_doc(piece: &str) -> (&str, &str) {
    match piece.starts_with("/**").then(|| piece.find("*/\n")).flatten() {
        Some(at) => piece.split_at(at + 3),
        None => ("", piece),
    }
}

/// Rust's heading for what the caller has to see to, as a line like the others ("Errors:",
/// "Ownership:"); it goes where there is nothing to see to.
fn safety(doc: &str) -> String {
    let Some((before, after)) = doc.split_once(" * # Safety\n") else { return doc.to_string() };
    let after = after.strip_prefix(" *\n").unwrap_or(after);
    let end = after.find(" *\n").or_else(|| after.find(" */")).unwrap_or(after.len());
    let (words, rest) = after.split_at(end);
    let before = before.strip_suffix(" *\n").unwrap_or(before);
    match words.strip_prefix(" * ") {
        Some(words) if !words.starts_with("None") => format!("{before} * Caller: {words}{rest}"),
        _ => format!("{before}{rest}"),
    }
}

/// A comment of one line takes one line.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let indent = &line[..line.len() - line.trim_start().len()];
        if let [open, words, close] = lines[at..lines.len().min(at + 3)] {
            let words = words.trim().trim_start_matches('*').trim();
            if open.trim() == "/**" && close.trim() == "*/" && indent.len() + words.len() < 93 {
                out.push(format!("{indent}/** {words} */"));
                at += 3;
                continue;
            }
        }
        out.push((*line).to_string());
        at += 1;
    }
    out.join("\n")
}

/// The name a piece declares, and whether it is a function: a function may have a struct's name.
fn declared(piece: &str) -> Option<(String, bool)> {
    let code = split_doc(piece).1;
    let ident = |s: &str| {
        s.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
    };
    let mut function = false;
    let name = if let Some(rest) = code.strip_prefix("#define ") {
        ident(rest)
    } else if let Some(rest) = code.strip_prefix("typedef ") {
        match rest.find("(*") {
            Some(at) => ident(&rest[at + 2..]),
            None => ident(rest.trim_end_matches(';').rsplit([' ', '*']).next()?),
        }
    } else if code.starts_with("struct ") && (code.contains('{') || !code.contains('(')) {
        ident(&code["struct ".len()..])
    } else {
        function = true;
        let head = &code[..code.find('(')?];
        ident(head.rsplit([' ', '*', '\n']).next()?)
    };
    (!name.is_empty()).then_some((name, function))
}

/// What no header of ours may say.
fn verify(text: &str) -> Result<()> {
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("#define ") else { continue };
        if !rest.starts_with("NETRING_") {
            return Err(format!("a define without the prefix: {line}"));
        }
        if rest.contains("<<") {
            return Err(format!("a shift in a define: {line}"));
        }
    }
    // A type that is no item of the interface keeps its Rust name.
    for word in code(text).split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
        let foreign = word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.contains(|c: char| c.is_ascii_lowercase());
        if foreign {
            return Err(format!(
                "{word}: a type C cannot see (see [export.rename] in cbindgen.toml)"
            ));
        }
    }
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    for word in words {
        if word.starts_with("netring_") && word.ends_with("_t") {
            return Err(format!("{word}: POSIX reserves names ending in _t"));
        }
    }
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        rest = &rest[at + 1..];
        let inside = &rest[..rest.find(']').unwrap_or(0)];
        let is_name =
            inside.bytes().all(|b| b.is_ascii_uppercase() || b == b'_' || b.is_ascii_digit());
        if is_name
            && inside.starts_with(|c: char| c.is_ascii_uppercase())
            && !inside.starts_with("NETRING_")
        {
            return Err(format!("[{inside}]: an array length must be a literal or NETRING_*"));
        }
    }
    Ok(())
}

/// The text without comments and directives.
fn code(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("/*") {
        out.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out.lines().filter(|l| !l.starts_with('#')).fold(String::new(), |all, l| all + l + "\n")
}

/// Shows how the checked-in file differs.
fn diff(path: &Path, text: &str) {
    let child = Command::new("diff")
        .args(["-u", "--label", "checked in", "--label", "generated"])
        .arg(path)
        .arg("-")
        .stdin(Stdio::piped())
        .spawn();
    match child {
        Ok(mut child) => {
            if let Some(mut stdin) = child.stdin.take() {
                let _ = stdin.write_all(text.as_bytes());
            }
            let _ = child.wait();
        }
        Err(e) => eprintln!("(no diff to show: diff: {e})"),
    }
}
