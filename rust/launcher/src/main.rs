//! `/bin/launcher`, what `occlum run` starts: sets the resource limits, starts the operator's Python, passes signals on
//! and ends as it ends. The LibOS has no fork, so the program is spawned and waited for.

mod limits;

use std::os::unix::process::ExitStatusExt;
use std::process::{exit, Command};
use std::sync::atomic::{AtomicI32, Ordering};

const LIMITS: &str = "/app/conf/limits";
// Python finds its library from this path, as the isolated mode ignores PYTHONHOME.
const PROGRAM: &str = "/opt/python/bin/python3";
// Isolated: neither variables nor the working folder decide what is imported.
const ARGUMENTS: [&str; 5] = ["-I", "-B", "-m", "uid2.operator", "/app/conf/config.json"];
const PASSED_SIGNALS: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
const CANNOT_START: i32 = 127;

static CHILD: AtomicI32 = AtomicI32::new(0);

extern "C" fn pass_on(signal: libc::c_int) {
    let child = CHILD.load(Ordering::SeqCst);
    if child > 0 {
        // SAFETY: kill may be called in a signal handler.
        unsafe { libc::kill(child, signal) };
    }
}

fn main() {
    match std::fs::read_to_string(LIMITS) {
        Ok(text) => match limits::parse(&text) {
            Ok(found) => apply(&found),
            Err(problem) => fail(&format!("{LIMITS}: {problem}"), "build the enclave again"),
        },
        Err(error) => fail(&format!("{LIMITS} cannot be read: {error}"), "build the enclave again"),
    }
    let mut command = Command::new(PROGRAM);
    command.args(ARGUMENTS);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => fail(&format!("{PROGRAM} does not start: {error}"), "check user_space_size in Occlum.json"),
    };
    CHILD.store(child.id() as i32, Ordering::SeqCst);
    for signal in PASSED_SIGNALS {
        // SAFETY: the handler does nothing but kill.
        unsafe { libc::signal(signal, pass_on as *const () as libc::sighandler_t) };
    }
    match child.wait() {
        Ok(status) => exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))),
        Err(error) => fail(&format!("the operator cannot be waited for: {error}"), "start the enclave again"),
    }
}

/// A limit that is above the present hard one stays as it is: the outside has set a smaller space.
fn apply(limits: &limits::Limits) {
    for (kind, bytes) in
        [(libc::RLIMIT_AS, limits.address_space), (libc::RLIMIT_DATA, limits.data), (libc::RLIMIT_STACK, limits.stack)]
    {
        if bytes == 0 {
            continue;
        }
        let wanted = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: a valid structure of this frame.
        if unsafe { libc::setrlimit(kind, &wanted) } != 0 {
            eprintln!("launcher: limit {kind} stays as it is: {}", std::io::Error::last_os_error());
        }
    }
}

fn fail(problem: &str, next_step: &str) -> ! {
    eprintln!("error: {problem}\n  next step: {next_step}");
    exit(CANNOT_START)
}
