//! Runs the targets over their seeds, and over mutations of them for a while:
//! what `make check` does, without libFuzzer. Each target runs in a process of
//! its own, so that a crash costs one line and not the run.
//!
//! ```text
//! seeds [--seconds N] [TARGET...]   TAP; the mutations are the same in every run
//! seeds --run TARGET FILE...        these inputs, for one that was found
//! seeds --write                     writes seeds/TARGET/* as src/seeds.rs has them
//! ```

use netring_fuzz::{TARGETS, Target};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

/// No input takes longer.
const PATIENCE_S: u32 = 30;
const LONGEST: usize = 4096;

/// Fails on purpose, to show that a failure is seen.
const SELF_TEST: Target = Target {
    name: "self-test",
    run: |data| assert_ne!(data.first(), Some(&b'!'), "as it should"),
    seeds: || vec![("near".into(), b" near".to_vec())],
};

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target)
}

/// Where inputs that were found go.
fn found(target: &str) -> PathBuf {
    std::env::temp_dir().join(format!("netring-fuzz-{target}-{}", std::process::id()))
}

fn target(name: &str) -> io::Result<&'static Target> {
    const EVERY: &[Target] = &[SELF_TEST];
    let all = TARGETS.iter().chain(EVERY);
    let known = || io::Error::other(format!("no target {name}; see fuzz/README.md"));
    all.into_iter().find(|target| target.name == name).ok_or_else(known)
}

/// The files of the folder in order, or what the target begins with.
fn seeds(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let folder = folder(target.name);
    if !folder.exists() {
        return Ok((target.seeds)().into_iter().map(|(_, bytes)| bytes).collect());
    }
    let mut paths: Vec<_> =
        fs::read_dir(folder)?.map(|e| Ok(e?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    paths.iter().map(fs::read).collect()
}

// ---- mutations ----

/// xorshift64*: the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n.max(1)
    }
}

const INTERESTING: [u32; 20] = [
    0,
    1,
    2,
    4,
    8,
    16,
    31,
    32,
    48,
    64,
    68,
    72,
    96,
    255,
    4096,
    65_535,
    65_536,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX,
];

fn mutate(numbers: &mut Numbers, data: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..1 + numbers.below(4) {
        let at = numbers.below(data.len());
        let length = 1 + numbers.below(8);
        match numbers.below(10) {
            0 if !data.is_empty() => data[at] ^= 1 << numbers.below(8),
            1 if !data.is_empty() => data[at] = numbers.next() as u8,
            2..=4 if data.len() >= 4 => {
                let at = numbers.below(data.len() - 3);
                let at = if numbers.below(4) == 0 { at } else { at & !3 };
                let value = INTERESTING[numbers.below(INTERESTING.len())];
                let value = value.wrapping_add(numbers.below(3) as u32).wrapping_sub(1);
                data[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            5 => data.truncate(at),
            6 if !data.is_empty() => {
                let end = (at + length).min(data.len());
                data.drain(at..end);
            }
            7 => {
                let end = (at + length).min(data.len());
                let piece = data[at.min(end)..end].to_vec();
                let to = numbers.below(data.len());
                data.splice(to..to, piece);
            }
            8 if !other.is_empty() => {
                let from = numbers.below(other.len());
                let end = (from + 4 * length).min(other.len());
                let to = at.min(data.len());
                let until = (to + end - from).min(data.len());
                data.splice(to..until, other[from..end].iter().copied());
            }
            _ => data.insert(at.min(data.len()), b"0123456789, \n!"[numbers.below(14)]),
        }
    }
    data.truncate(LONGEST);
}

// ---- one target, in its own process ----

/// Keeps what is about to be run where a crash leaves it.
struct Current(fs::File);

impl Current {
    fn run(&self, target: &Target, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        self.0.write_all_at(&[&length, data].concat(), 0)?;
        (target.run)(data);
        Ok(())
    }
}

fn one(target: &Target, seconds: f64, current: &Path) -> io::Result<()> {
    // Panics inside of the library are caught there: they end the run here.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
    let patience = || {
        // SAFETY: a number; SIGALRM ends the process.
        unsafe { libc::alarm(PATIENCE_S) };
    };
    let current = Current(fs::File::create(current)?);
    let seeds = seeds(target)?;
    for seed in &seeds {
        patience();
        current.run(target, seed)?;
    }
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut numbers = Numbers(1);
    let mut count = 0;
    while Instant::now() < end {
        patience();
        for _ in 0..64 {
            let mut data = seeds[numbers.below(seeds.len())].clone();
            mutate(&mut numbers, &mut data, &seeds[count % seeds.len()]);
            current.run(target, &data)?;
            count += 1;
        }
    }
    println!("# {}: {} seeds, {count} mutations", target.name, seeds.len());
    Ok(())
}

// ---- all of them ----

/// Runs a target in a process of its own; what it failed on.
fn apart(name: &str, seconds: &str) -> io::Result<(ExitStatus, Vec<u8>)> {
    let current = found(name).with_extension("current");
    let status = Command::new(std::env::current_exe()?)
        .args(["--one", name, seconds])
        .arg(&current)
        .status()?;
    let saved = fs::read(&current)?;
    fs::remove_file(&current)?;
    let (length, data) = saved.split_at(saved.len().min(8));
    let length = length.try_into().map_or(0, u64::from_le_bytes) as usize;
    Ok((status, data[..length.min(data.len())].to_vec()))
}

fn all(names: &[&str], seconds: &str) -> io::Result<ExitCode> {
    let mut failed = false;
    let mut check = |ok: bool, what: &str| {
        failed |= !ok;
        println!("{} - {what}", if ok { "ok" } else { "not ok" });
    };
    println!("1..{}", names.len() * 2 + 1);
    for name in names {
        let made = (target(name)?.seeds)().into_iter();
        let same = made.clone().all(|(seed, bytes)| {
            fs::read(folder(name).join(seed)).is_ok_and(|there| there == bytes)
        });
        check(
            same && made.len() > 0,
            &format!("{name}: the seeds of src/seeds.rs (seeds --write)"),
        );
        let (status, input) = apart(name, seconds)?;
        if !status.success() {
            let path = found(name);
            fs::write(&path, input)?;
            println!("# {status}; again: make fuzz-run TARGET={name} INPUT={}", path.display());
        }
        check(status.success(), &format!("{name}: seeds and mutations"));
    }
    let (status, input) = apart(SELF_TEST.name, "5")?;
    let noticed = !status.success() && input.first() == Some(&b'!');
    check(noticed, "self-test: a target that fails is noticed, with its input");
    io::stdout().flush()?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write() -> io::Result<()> {
    for target in TARGETS {
        fs::create_dir_all(folder(target.name))?;
        for (name, bytes) in (target.seeds)() {
            fs::write(folder(target.name).join(name), bytes)?;
        }
    }
    Ok(())
}

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--write"] => write()?,
        ["--one", name, seconds, current] => {
            let seconds = seconds.parse().map_err(io::Error::other)?;
            one(target(name)?, seconds, Path::new(current))?;
        }
        ["--run", name, ref files @ ..] => {
            for file in files {
                (target(name)?.run)(&fs::read(file)?);
                println!("{file}: passes");
            }
        }
        _ => {
            let (seconds, names) = match arguments[..] {
                ["--seconds", seconds, ref names @ ..] => (seconds, names.to_vec()),
                ref names => ("2", names.to_vec()),
            };
            let every: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            return all(if names.is_empty() { &every } else { &names }, seconds);
        }
    }
    Ok(ExitCode::SUCCESS)
}
