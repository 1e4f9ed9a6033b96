#![allow(clippy::unwrap_used)]

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use wiremock::matchers::{any, header, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

const LOOPBACK: AddressSource = AddressSource::Named {
    by: Scope::Loopback,
};
const GLOBAL: AddressSource = AddressSource::Named { by: Scope::Global };

fn request(url: &str, named_by: AddressSource) -> HttpRequest<'_> {
    let deadline = Duration::from_secs(20);
    HttpRequest {
        url,
        named_by,
        max_body: 100_000,
        deadline,
        etag: None,
        last_modified: None,
    }
}

fn http() -> Http {
    Http::new(&HttpOptions::default()).unwrap()
}

async fn serve(template: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(template)
        .mount(&server)
        .await;
    server
}

fn recorder() -> &'static PrometheusRecorder {
    Box::leak(Box::new(PrometheusBuilder::new().build_recorder()))
}

fn assert_counted(recorder: &PrometheusRecorder, reason: &str) {
    let text = recorder.handle().render();
    let line = format!("btslave_http_refused_total{{reason=\"{reason}\"}} 1");
    assert!(text.lines().any(|l| l == line), "{text}");
}

#[tokio::test]
async fn a_plain_fetch_brings_body_and_validators() {
    let server = MockServer::start().await;
    let reply = ResponseTemplate::new(200)
        .set_body_raw("hello", "Text/Plain; charset=utf-8")
        .insert_header("etag", "\"1\"")
        .insert_header("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT");
    Mock::given(header("user-agent", USER_AGENT))
        .respond_with(reply)
        .mount(&server)
        .await;
    let reply = http()
        .get(&request(&server.uri(), AddressSource::Operator))
        .await
        .unwrap();
    assert_eq!((reply.status, &reply.body[..]), (200, &b"hello"[..]));
    assert_eq!(reply.content_type.as_deref(), Some("text/plain"));
    assert_eq!(reply.etag.as_deref(), Some("\"1\""));
    assert!(reply.last_modified.is_some());
    assert_eq!(reply.speaks_as, LOOPBACK);
}

#[tokio::test]
async fn a_global_source_reaches_no_loopback_by_address_or_by_name() {
    let recorder = recorder();
    let _guard = metrics::set_default_local_recorder(recorder);
    let server = serve(ResponseTemplate::new(200)).await;
    let port = server.address().port();
    let error = http()
        .get(&request(&format!("http://127.0.0.1:{port}/"), GLOBAL))
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Forbidden { .. }), "{error}");
    assert_counted(recorder, "address");
    let error = http()
        .get(&request(&format!("http://localhost:{port}/"), GLOBAL))
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Forbidden { .. }), "{error}");
    assert_eq!(server.received_requests().await.unwrap().len(), 0);
    http()
        .get(&request(&format!("http://localhost:{port}/"), LOOPBACK))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_redirect_is_named_by_the_server_that_sent_it() {
    // As a wider source would: the loopback server is reached on the operator's word, the hop is judged by the source.
    let url = Url::parse("http://127.0.0.1:8080/").unwrap();
    assert!(check_url(&url, GLOBAL).is_err());
    assert!(check_url(&url, AddressSource::Operator).is_ok());
    for bad in [
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "http://[::1]/",
        "http://[fe80::1]/",
        "http://[::ffff:10.0.0.1]/",
    ] {
        assert!(
            check_url(&Url::parse(bad).unwrap(), GLOBAL).is_err(),
            "{bad}"
        );
    }
    assert!(check_url(&Url::parse("http://10.0.0.1/").unwrap(), LOOPBACK).is_ok());
    for port in [22, 25, 0] {
        let url = Url::parse(&format!("http://8.8.8.8:{port}/")).unwrap();
        assert!(check_url(&url, GLOBAL).is_err(), "{port}");
    }
    assert!(
        check_url(
            &Url::parse("http://8.8.8.8:81/").unwrap(),
            AddressSource::Operator
        )
        .is_ok()
    );
}

#[tokio::test]
async fn e2_no_scheme_but_http_also_after_a_redirect() {
    let recorder = recorder();
    let _guard = metrics::set_default_local_recorder(recorder);
    let server =
        serve(ResponseTemplate::new(302).insert_header("location", "file:///etc/passwd")).await;
    let error = http()
        .get(&request(&server.uri(), AddressSource::Operator))
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Scheme { .. }), "{error}");
    assert_counted(recorder, "scheme");
    for url in ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"] {
        let error = http().get(&request(url, LOOPBACK)).await.unwrap_err();
        assert!(matches!(error, HttpError::Scheme { .. }), "{error}");
    }
}

#[tokio::test]
async fn c4_twenty_redirects_are_cut_at_ten() {
    let recorder = recorder();
    let _guard = metrics::set_default_local_recorder(recorder);
    let server = serve(ResponseTemplate::new(302).insert_header("location", "/again")).await;
    let error = http()
        .get(&request(&server.uri(), AddressSource::Operator))
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Redirects { .. }), "{error}");
    assert_eq!(
        server.received_requests().await.unwrap().len(),
        MAX_REDIRECTS + 1
    );
    assert_counted(recorder, "redirects");
}

#[tokio::test]
async fn credentials_stay_with_the_host_they_were_written_for() {
    let other = serve(ResponseTemplate::new(200)).await;
    let server = MockServer::start().await;
    let away =
        ResponseTemplate::new(302).insert_header("location", format!("{}/there", other.uri()));
    Mock::given(path("/here"))
        .respond_with(away)
        .mount(&server)
        .await;
    let url = format!("http://user:secret@{}/here", server.address());
    http()
        .get(&request(&url, AddressSource::Operator))
        .await
        .unwrap();
    assert!(
        server.received_requests().await.unwrap()[0]
            .headers
            .contains_key("authorization")
    );
    assert!(
        !other.received_requests().await.unwrap()[0]
            .headers
            .contains_key("authorization")
    );
}

#[tokio::test]
async fn a_body_over_the_cap_is_cut_off_and_a_gzip_bomb_too() {
    let recorder = recorder();
    let _guard = metrics::set_default_local_recorder(recorder);
    let server = serve(ResponseTemplate::new(200).set_body_bytes(vec![0u8; 200_000])).await;
    let error = http()
        .get(&request(&server.uri(), AddressSource::Operator))
        .await
        .unwrap_err();
    assert!(
        matches!(error, HttpError::TooLarge { limit: 100_000, .. }),
        "{error}"
    );
    assert_counted(recorder, "too_large");
    let bomb = gzip_of_zeros(64);
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let reply = ResponseTemplate::new(200)
        .set_body_bytes(bomb)
        .insert_header("content-encoding", "gzip");
    let server = serve(reply).await;
    let error = http()
        .get(&request(&server.uri(), AddressSource::Operator))
        .await
        .unwrap_err();
    assert!(
        matches!(error, HttpError::TooLarge { limit: 100_000, .. }),
        "{error}"
    );
}

/// `blocks` × 4128 zero bytes as gzip: one fixed-Huffman deflate block of a literal and `blocks` × 16 matches of 258.
fn gzip_of_zeros(blocks: usize) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (mut bits, mut count) = (0u32, 0u32);
    let mut push = |value: u32, size: u32, out: &mut Vec<u8>| {
        bits |= value << count;
        count += size;
        while count >= 8 {
            out.push((bits & 0xff) as u8);
            bits >>= 8;
            count -= 8;
        }
    };
    push(0b011, 3, &mut out);
    push(0b0000_1100, 8, &mut out);
    for _ in 0..blocks * 16 {
        push(0b1010_0011, 8, &mut out);
        push(0, 5, &mut out);
    }
    push(0, 7, &mut out);
    push(0, 7, &mut out);
    out.extend_from_slice(&[0; 8]);
    out
}

#[tokio::test]
async fn a_silent_server_times_out() {
    let server = serve(ResponseTemplate::new(200).set_delay(Duration::from_secs(60))).await;
    let uri = server.uri();
    let mut request = request(&uri, AddressSource::Operator);
    request.deadline = Duration::from_millis(200);
    assert!(matches!(
        http().get(&request).await,
        Err(HttpError::Timeout { .. })
    ));
}

#[tokio::test]
async fn e1_a_self_signed_certificate_is_refused() {
    let recorder = recorder();
    let _guard = metrics::set_default_local_recorder(recorder);
    let address = crate::discover::tls_server::start();
    let error = http()
        .get(&request(
            &format!("https://{address}/"),
            AddressSource::Operator,
        ))
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Tls { .. }), "{error:?}");
    assert_counted(recorder, "tls");
}

#[test]
fn passkeys_and_passwords_are_masked() {
    let url = "https://me:pw@t.example:8443/0123456789abcdef0123/announce?passkey=secret&x=1";
    assert_eq!(mask(url), "https://t.example:8443/…/announce?passkey=…&x=…");
    assert_eq!(mask("not a url with secret"), "(21 characters)");
}
