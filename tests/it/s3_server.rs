//! A real S3 server over HTTP in the test process, with injected faults.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::{Frame, Incoming};
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};

use crate::http_server;

pub(crate) const SECRET: &str = "an-example-secret-key";

/// The treatment of a request.
pub(crate) enum Fault {
    /// It is served normally.
    None,
    /// It is answered with this status and error code.
    Refused(u16, &'static str),
    /// The connection breaks before a response.
    Cut,
    /// The connection breaks after the response headers.
    CutInBody,
    /// It is served, and the connection breaks before the response.
    Unanswered,
    /// It is served without its condition.
    Unconditional,
    /// It is served after this delay.
    #[cfg(feature = "cluster")]
    Slow(Duration),
}

type Faults = Box<dyn FnMut(&Parts) -> Fault + Send>;

struct Shared {
    folder: tempfile::TempDir,
    /// Objects that are not stored as files, by bucket and key.
    odd: Mutex<BTreeMap<(String, String), Bytes>>,
    /// The metadata of objects, by path. The server's own are in files whose names hold the key twice, so keys must be short.
    metadata: Mutex<BTreeMap<String, Vec<(String, String)>>>,
    service: S3Service,
    faults: Mutex<Faults>,
    log: Mutex<Vec<String>>,
    delay: Mutex<Duration>,
    open: AtomicUsize,
    most_open: AtomicUsize,
    sent: AtomicU64,
    /// Makes conditional writes atomic, which the server's own are not.
    writes: tokio::sync::Mutex<()>,
}

/// A server with one folder per bucket. It accepts every access key with the secret [`SECRET`].
pub(crate) struct Server {
    shared: Arc<Shared>,
    pub(crate) url: String,
    home: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

struct AnyKey;

#[async_trait::async_trait]
impl S3Auth for AnyKey {
    async fn get_secret_key(&self, _access_key: &str) -> s3s::S3Result<SecretKey> {
        Ok(SecretKey::from(SECRET))
    }
}

impl Server {
    pub(crate) fn start() -> Server {
        Server::start_with(|builder| builder.set_auth(AnyKey))
    }

    /// Starts a server that needs no access key.
    pub(crate) fn start_public() -> Server {
        Server::start_with(|_| ())
    }

    /// The server has an empty bucket `lake`.
    fn start_with(guard: impl FnOnce(&mut S3ServiceBuilder)) -> Server {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lake")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        guard(&mut builder);
        let shared = Arc::new(Shared {
            folder,
            odd: Mutex::default(),
            metadata: Mutex::default(),
            service: builder.build(),
            faults: Mutex::new(Box::new(|_| Fault::None)),
            log: Mutex::default(),
            delay: Mutex::default(),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            writes: tokio::sync::Mutex::default(),
        });
        let served = Arc::clone(&shared);
        let (url, runtime) = http_server::serve(2, move |request| serve(Arc::clone(&served), request));
        Server { shared, url, home: tempfile::tempdir().unwrap(), _runtime: runtime }
    }

    /// Returns the file of the object `key` in `bucket`.
    pub(crate) fn file(&self, bucket: &str, key: &str) -> PathBuf {
        self.shared.folder.path().join(bucket).join(key)
    }

    pub(crate) fn put(&self, bucket: &str, key: &str, bytes: &[u8]) {
        let file = self.file(bucket, key);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    /// Sets the metadata (`x-amz-meta-…`) of an object.
    pub(crate) fn set_metadata(&self, bucket: &str, key: &str, metadata: impl Iterator<Item = (String, String)>) {
        self.shared.metadata.lock().unwrap().insert(format!("/{bucket}/{key}"), metadata.collect());
    }

    /// Stores an object whose key need not be a file path. From then on the bucket is listed like S3.
    pub(crate) fn put_odd(&self, bucket: &str, key: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.file(bucket, "")).unwrap();
        let place = (bucket.to_owned(), key.to_owned());
        self.shared.odd.lock().unwrap().insert(place, Bytes::copy_from_slice(bytes));
    }

    /// Calls `faults` for each request from now on.
    pub(crate) fn set_faults(&self, faults: impl FnMut(&Parts) -> Fault + Send + 'static) {
        *self.shared.faults.lock().unwrap() = Box::new(faults);
    }

    /// Starts a process, and kills it at the request with this number, from 0. That request is served or not, later ones are
    /// not. Returns how the process ended.
    pub(crate) fn kill_at_request(&self, number: usize, is_served: bool, start: impl FnOnce() -> Child) -> ExitStatus {
        let child = Arc::new(Mutex::new(None::<Child>));
        let (killed, mut received) = (Arc::clone(&child), 0);
        self.set_faults(move |_| {
            received += 1;
            if received <= number {
                return Fault::None;
            }
            // The lock is held until the process has started.
            killed.lock().unwrap().as_mut().unwrap().kill().unwrap();
            if is_served && received == number + 1 { Fault::None } else { Fault::Cut }
        });
        let mut started = child.lock().unwrap();
        *started = Some(start());
        drop(started);
        let status = loop {
            if let Some(status) = child.lock().unwrap().as_mut().unwrap().try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.set_faults(|_| Fault::None);
        status
    }

    pub(crate) fn set_delay(&self, delay: Duration) {
        *self.shared.delay.lock().unwrap() = delay;
    }

    /// Returns the requests since the last call, as method and URI.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.log.lock().unwrap())
    }

    /// Returns the bytes sent in response to GET since the last call.
    pub(crate) fn take_sent(&self) -> u64 {
        self.shared.sent.swap(0, Ordering::SeqCst)
    }

    /// Returns the highest number of concurrent requests.
    pub(crate) fn most_open(&self) -> usize {
        self.shared.most_open.load(Ordering::SeqCst)
    }

    /// Returns a command that uses the server and no other settings of this machine.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_clear()
            .env("HOME", self.home.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL", &self.url)
            .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", SECRET);
        command
    }

    /// Runs the command, and checks that its output has no secret.
    pub(crate) fn run(command: &mut Command) -> Output {
        let output = ended(command.output().unwrap());
        for written in [&output.stdout, &output.stderr] {
            assert!(!String::from_utf8_lossy(written).contains(SECRET), "a secret was written");
        }
        output
    }

    /// Runs the program. A hunt without a rule uses the default rule.
    pub(crate) fn tawny(&self, arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.args(arguments);
        if arguments[0] == "hunt" && !arguments.contains(&"--rules") {
            command.args(["--rule", tawny::rule::catalog::DEFAULT]);
        }
        Server::run(&mut command)
    }
}

/// Checks that a process ended without a signal or panic.
pub(crate) fn ended(output: Output) -> Output {
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0..=3)), "{:?}: {talk}", output.status);
    assert!(!talk.contains("panicked at"), "{talk}");
    output
}

/// Returns the access key that signed a request.
pub(crate) fn access_key(parts: &Parts) -> String {
    let header = parts.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (_, rest) = header.split_once("Credential=").unwrap_or_default();
    rest.split('/').next().unwrap_or_default().to_owned()
}

/// Returns faults that deny an access key the second time it is used.
pub(crate) fn keys_expire_after_one_request(seen: Arc<Mutex<HashSet<String>>>) -> impl FnMut(&Parts) -> Fault + Send {
    move |parts| {
        if seen.lock().unwrap().insert(access_key(parts)) { Fault::None } else { Fault::Refused(400, "ExpiredToken") }
    }
}

async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<s3s::Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    shared.log.lock().unwrap().push(format!("{} {}", parts.method, parts.uri));
    let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most_open.fetch_max(open, Ordering::SeqCst);
    let delay = *shared.delay.lock().unwrap();
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    shared.open.fetch_sub(1, Ordering::SeqCst);
    let fault = (shared.faults.lock().unwrap())(&parts);
    let broken = || Err(std::io::Error::other("cut by the test"));
    match fault {
        Fault::Refused(status, code) => {
            let secret = "<StringToSign>AWS4-HMAC-SHA256</StringToSign>";
            let xml = format!("<Error><Code>{code}</Code><Message>said by the test</Message>{secret}</Error>");
            return Ok(Response::builder().status(status).body(s3s::Body::from(xml)).unwrap());
        }
        Fault::Cut => return broken(),
        Fault::Unconditional => {
            let file = shared.folder.path().join(parts.uri.path().trim_start_matches('/'));
            if parts.method == http::Method::PUT {
                std::fs::remove_file(file).ok();
            }
        }
        #[cfg(feature = "cluster")]
        Fault::Slow(pause) => tokio::time::sleep(pause).await,
        Fault::None | Fault::CutInBody | Fault::Unanswered => {}
    }
    let (writes, reads) = (parts.method == http::Method::PUT, parts.method == http::Method::GET);
    let guard = if writes { Some(shared.writes.lock().await) } else { None };
    let odd = shared.odd_answer(&parts);
    let metadata = shared.metadata.lock().unwrap().get(parts.uri.path()).cloned().unwrap_or_default();
    let answer = shared.service.call(Request::from_parts(parts, s3s::Body::from(body))).await;
    drop(guard);
    // The server has checked the signature.
    if let (Some(odd), Ok(checked)) = (odd, &answer)
        && checked.status() != http::StatusCode::FORBIDDEN
    {
        return Ok(odd);
    }
    if let Fault::Unanswered = fault {
        return broken();
    }
    let mut answer = answer.map_err(|error| std::io::Error::other(format!("{error:?}")))?;
    for (name, value) in metadata {
        let name = http::HeaderName::try_from(format!("x-amz-meta-{name}")).unwrap();
        answer.headers_mut().insert(name, value.try_into().unwrap());
    }
    let length = answer.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if reads {
        shared.sent.fetch_add(length.unwrap_or(0), Ordering::SeqCst);
    }
    if let (Fault::CutInBody, Some(length)) = (fault, length) {
        let (parts, _) = answer.into_parts();
        return Ok(Response::from_parts(parts, s3s::Body::http_body_unsync(Broken { length })));
    }
    Ok(answer)
}

impl Shared {
    /// Returns the response for an object that is not a file, or for a list of a bucket with such objects.
    fn odd_answer(&self, parts: &Parts) -> Option<Response<s3s::Body>> {
        let odd = self.odd.lock().unwrap();
        let path = percent_decoded(parts.uri.path().strip_prefix('/')?);
        let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
        let head =
            Response::builder().header("last-modified", "Mon, 01 Sep 2025 00:00:00 GMT").header("etag", "\"odd\"");
        if let Some(bytes) = odd.get(&(bucket.to_owned(), key.to_owned())) {
            let head = head.header("content-length", bytes.len());
            let body = if parts.method == http::Method::HEAD { Bytes::new() } else { bytes.clone() };
            return Some(head.body(s3s::Body::from(body)).unwrap());
        }
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(parts.uri.query()?.as_bytes()).into_owned().collect();
        if !key.is_empty() || !query.contains_key("list-type") || !odd.keys().any(|(name, _)| name == bucket) {
            return None;
        }
        let root = self.folder.path().join(bucket);
        let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
        for file in glob::glob(&format!("{}/**/*", root.display())).unwrap().flatten().filter(|path| path.is_file()) {
            let key = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            sizes.insert(key, usize::try_from(file.metadata().unwrap().len()).unwrap());
        }
        sizes.extend(
            odd.iter().filter(|((name, _), _)| name == bucket).map(|((_, key), bytes)| (key.clone(), bytes.len())),
        );
        Some(head.body(s3s::Body::from(listing(&sizes, &query))).unwrap())
    }
}

/// Returns the response to `ListObjectsV2`.
fn listing(sizes: &BTreeMap<String, usize>, query: &BTreeMap<String, String>) -> String {
    let given = |name: &str| query.get(name).map_or("", String::as_str);
    let after = if given("continuation-token").is_empty() { given("start-after") } else { given("continuation-token") };
    let (mut contents, mut folders, mut last) = (String::new(), BTreeSet::new(), None);
    for (count, (key, size)) in
        sizes.iter().filter(|(key, _)| key.starts_with(given("prefix")) && key.as_str() > after).enumerate()
    {
        if count == 1_000 {
            break;
        }
        let below = &key[given("prefix").len()..];
        match below.find('/').filter(|_| query.contains_key("delimiter")) {
            Some(end) => drop(folders.insert(&key[..=given("prefix").len() + end])),
            None => {
                write!(
                    contents,
                    "<Contents><Key>{}</Key><LastModified>2025-09-01T00:00:00.000Z</LastModified><ETag>&quot;odd&quot;\
                     </ETag><Size>{size}</Size></Contents>",
                    escaped(key)
                )
                .unwrap();
            }
        }
        last = Some((count, key));
    }
    for folder in folders {
        write!(contents, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(folder)).unwrap();
    }
    let token = match last {
        Some((999, key)) => format!("<NextContinuationToken>{}</NextContinuationToken>", escaped(key)),
        _ => String::new(),
    };
    format!("<ListBucketResult><Prefix>{}</Prefix>{token}{contents}</ListBucketResult>", escaped(given("prefix")))
}

fn escaped(text: &str) -> String {
    let one = |c: char| match c {
        '&' | '<' | '>' => format!("&#{};", u32::from(c)),
        c if c.is_control() => format!("&#x{:x};", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

fn percent_decoded(path: &str) -> String {
    // No other character of a signed path has a meaning in form encoding.
    url::form_urlencoded::parse(path.as_bytes()).next().map_or_else(String::new, |(path, _)| path.into_owned())
}

/// A body that breaks before its announced length.
struct Broken {
    length: u64,
}

impl hyper::body::Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(Some(Err(std::io::Error::other("cut by the test"))))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.length)
    }
}
