//! An application of a few lines, for tests: it answers each connection's one request by a function of its text.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The headers that every answer over http should have.
pub(super) const SECURE: &str = "content-security-policy: default-src 'none'\r\nx-content-type-options: nosniff\r\n\
                                 x-frame-options: DENY\r\nreferrer-policy: no-referrer\r\n";

/// A server on a thread of its own; it ends with this value.
pub(super) struct Tiny {
    pub(super) url: String,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Tiny {
    /// `answer` gets the head of a request and says the whole response, which ends with the connection.
    pub(super) fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let over = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&over);
        let serve = move || {
            for stream in listener.incoming() {
                if theirs.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    serve_one(stream, &answer);
                }
            }
        };
        Self { url, over, thread: Some(std::thread::spawn(serve)) }
    }
}

fn serve_one(mut stream: TcpStream, answer: &impl Fn(&str) -> String) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => head.extend_from_slice(piece.get(..count).unwrap()),
            _ => return,
        }
    }
    // A client that has read enough closes.
    let _ = stream.write_all(answer(&String::from_utf8(head).unwrap()).as_bytes());
}

impl Drop for Tiny {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.url.trim_start_matches("http://")));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
