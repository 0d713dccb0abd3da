//! Web servers: a real lighttpd (ranges, keep-alive, TLS), Python's own (no ranges), and a scripted one for what none of them
//! does. Each dies with its fixture; a test is skipped, with a line that says so, where its server is not installed.

use super::objects::Object;
use super::pki::Pki;
use mainstay_core::digest::Digest;
use mainstay_core::seam::{PieceSource, Place, Result};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A folder as `mainstayctl export` writes it: one route, and objects that are in none.
pub struct Folder {
    pub folder: tempfile::TempDir,
    pub route: Digest,
    pub pieces: Vec<Object>,
    pub objects: Vec<Object>,
}

impl Folder {
    pub fn new(pieces: Vec<Object>, objects: Vec<Object>) -> Folder {
        let folder = tempfile::tempdir().expect("folder");
        let at = |path: &str| folder.path().join("mainstay").join(path);
        for name in ["c", "r"] {
            std::fs::create_dir_all(at(name)).expect("folder");
        }
        let route = Digest::of(b"the route's table");
        let row: Vec<u8> = pieces.iter().flat_map(|(_, piece)| piece.clone()).collect();
        std::fs::write(at(&format!("r/{route}")), row).expect("route");
        for (name, object) in &objects {
            std::fs::write(at(&format!("c/{name}")), object).expect("object");
        }
        Folder { folder, route, pieces, objects }
    }

    pub fn row(&self) -> PathBuf {
        self.folder.path().join(format!("mainstay/r/{}", self.route))
    }

    /// Pulls the pieces that `wanted` takes, in order and ahead as the installer does.
    pub fn pull(&self, source: &mut dyn PieceSource, wanted: impl Fn(usize) -> bool) -> Result<()> {
        let mut at = 0;
        let placed = self.pieces.iter().enumerate().map(|(n, (name, piece))| {
            let place = Place { route: self.route, at };
            at += piece.len() as u64;
            (n, name, piece, place)
        });
        let placed: Vec<_> = placed.filter(|(n, ..)| wanted(*n)).collect();
        let mut ahead = 0;
        for (_, name, piece, place) in &placed {
            while let Some((_, name, piece, place)) = placed.get(ahead) {
                source.place(name, piece.len() as u32, *place);
                if !source.prefetch(name, piece.len() as u32) {
                    break;
                }
                ahead += 1;
            }
            source.place(name, piece.len() as u32, *place);
            while Digest::of(source.fetch(name, piece.len() as u32)?) != **name {
                source.refute(name)?;
            }
            source.release(name);
        }
        Ok(())
    }
}

/// A server process.
pub struct Web {
    pub port: u16,
    pub folder: PathBuf,
    child: Child,
}

impl Web {
    /// lighttpd over `folder`; with TLS it wants a client certificate of the same CA.
    pub fn lighttpd(folder: &Path, tls: Option<&Pki>) -> Option<Web> {
        let program = installed("lighttpd")?;
        let modules = ["/usr/lib/lighttpd/mod_openssl.so", "/usr/lib64/lighttpd/mod_openssl.so"];
        if tls.is_some() && !modules.iter().any(|module| Path::new(module).exists()) {
            println!("not run: lighttpd has no mod_openssl");
            return None;
        }
        let port = super::free_port();
        let mut lines = vec![
            format!("server.document-root = \"{}\"", folder.display()),
            format!("server.port = {port}"),
            "server.bind = \"127.0.0.1\"".into(),
            format!("server.errorlog = \"{}\"", folder.join("error.log").display()),
            "mimetype.assign = ( \"\" => \"application/octet-stream\" )".into(),
            "server.modules = ( \"mod_accesslog\" )".into(),
            format!("accesslog.filename = \"{}\"", folder.join("access.log").display()),
        ];
        if let Some(pki) = tls {
            lines.push("server.modules += ( \"mod_openssl\" )".into());
            lines.push("ssl.engine = \"enable\"".into());
            lines.push(format!("ssl.pemfile = \"{}\"", pki.server.cert.display()));
            lines.push(format!("ssl.privkey = \"{}\"", pki.server.key.display()));
            lines.push(format!("ssl.ca-file = \"{}\"", pki.ca.display()));
            lines.push("ssl.verifyclient.activate = \"enable\"".into());
            lines.push("ssl.verifyclient.enforce = \"enable\"".into());
        }
        let config = folder.join("lighttpd.conf");
        std::fs::write(&config, lines.join("\n")).expect("configuration");
        let mut command = Command::new(program);
        command.arg("-D").arg("-f").arg(config);
        Some(Web::start(command, port, folder))
    }

    /// Python's http.server: HTTP/1.0, no ranges, a connection for each file.
    pub fn python(folder: &Path) -> Option<Web> {
        let program = installed("python3")?;
        let port = super::free_port();
        let mut command = Command::new(program);
        command.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"]).arg(folder);
        command.arg(port.to_string());
        Some(Web::start(command, port, folder))
    }

    fn start(mut command: Command, port: u16, folder: &Path) -> Web {
        let log = std::fs::File::create(folder.join("log")).expect("log");
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the web server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Web { port, folder: folder.into(), child }
    }

    /// Ends it; the GETs that lighttpd has answered, as its log has them, which it writes at its end.
    pub fn stop(mut self) -> Vec<String> {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        let log = std::fs::read_to_string(self.folder.join("access.log")).expect("its log");
        log.lines().filter(|line| line.contains("\"GET ")).map(str::to_owned).collect()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("not run: {name} is not installed");
    }
    found
}

/// A fake server: hands each request's text, and where to answer, to `script`; `false` closes the connection.
pub struct Fake {
    pub port: u16,
    pub connections: Arc<AtomicUsize>,
    /// The requests, in order.
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub fn start(script: impl FnMut(&str, &mut TcpStream) -> bool + Send + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let fake = Fake { port, connections: connections.clone(), requests: requests.clone() };
        let script = Arc::new(Mutex::new(script));
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (script, requests) = (script.clone(), requests.clone());
                std::thread::spawn(move || {
                    let mut held = Vec::new();
                    let mut some = [0; 4096];
                    loop {
                        while let Some(end) = held.windows(4).position(|end| end == b"\r\n\r\n") {
                            let request: Vec<u8> = held.drain(..end + 4).collect();
                            let request = String::from_utf8_lossy(&request).into_owned();
                            requests.lock().unwrap().push(request.clone());
                            if !(script.lock().unwrap())(&request, &mut stream) {
                                return;
                            }
                        }
                        match stream.read(&mut some) {
                            Ok(taken @ 1..) => held.extend_from_slice(&some[..taken]),
                            _ => return,
                        }
                    }
                });
            }
        });
        fake
    }
}

/// The first and last byte that a request asks for.
pub fn range_of(request: &str) -> Option<(usize, usize)> {
    let (_, rest) = request.split_once("Range: bytes=")?;
    let (first, last) = rest.lines().next()?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// An honest answer to a request for a range of `row`.
pub fn answer_range(stream: &mut TcpStream, row: &[u8], (first, last): (usize, usize)) -> bool {
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\n\r\n",
        last - first + 1,
        row.len()
    );
    stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&row[first..=last]).is_ok()
}
