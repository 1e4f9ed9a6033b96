#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

fn base() -> Url {
    Url::parse("https://feed.example/dir/feed.xml").unwrap()
}

fn read(text: &str) -> (Vec<FeedItem>, usize, Option<Duration>) {
    match parse(text.as_bytes(), None, &base()).unwrap() {
        Document::Items {
            items,
            refused,
            ttl,
        } => (items, refused, ttl),
        Document::Torrent => panic!("a torrent"),
    }
}

fn links(text: &str) -> Vec<String> {
    let (items, ..) = read(text);
    items.into_iter().map(|i| link_text(&i.link)).collect()
}

fn link_text(link: &ItemLink) -> String {
    match link {
        ItemLink::Torrent(url) => url.to_string(),
        ItemLink::Magnet(link) => link.clone(),
    }
}

const RSS: &str = r#"<?xml version="1.0"?><rss version="2.0" xmlns:x="http://xmlns.ezrss.it/0.1/"><channel>
<title>t</title><link>https://feed.example/</link><description>d</description><ttl>90</ttl>
<item><title>old</title><enclosure url="/get?id=1" length="5" type="application/x-bittorrent"/>
  <pubDate>Thu, 01 Jan 1970 00:00:10 GMT</pubDate></item>
<item><title>new &amp; shiny</title><link>a.torrent</link><pubDate>Thu, 01 Jan 1970 00:00:20 GMT</pubDate>
  <x:contentLength>77</x:contentLength></item>
<item><title>by hash</title><link>https://feed.example/page</link><x:torrent><x:infoHash>0123456789abcdef0123456789abcdef01234567</x:infoHash></x:torrent></item>
<item><title>by magnet</title><guid>nothing</guid><x:magnetURI><![CDATA[magnet:?xt=urn:btih:aa]]></x:magnetURI></item>
<item><title>no torrent</title><link>https://feed.example/page</link></item>
</channel></rss>"#;

#[test]
fn rss_items_are_found_newest_first() {
    let (items, refused, ttl) = read(RSS);
    let found: Vec<_> = items
        .iter()
        .map(|i| (&*i.title, link_text(&i.link)))
        .collect();
    assert_eq!(
        found,
        [
            (
                "new & shiny",
                "https://feed.example/dir/a.torrent".to_owned()
            ),
            ("old", "https://feed.example/get?id=1".to_owned()),
            (
                "by hash",
                "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567".to_owned()
            ),
            ("by magnet", "magnet:?xt=urn:btih:aa".to_owned()),
        ]
    );
    assert_eq!((items[0].claimed_bytes, refused), (Some(77), 0));
    assert_eq!(ttl, Some(Duration::from_secs(5400)));
}

#[test]
fn atom_entries_are_found() {
    let atom = r#"<feed xmlns="http://www.w3.org/2005/Atom"><title>t</title><id>u</id><updated>2020-01-01T00:00:00Z</updated>
<entry><title>one</title><id>1</id><updated>2020-01-01T00:00:00Z</updated><link rel="alternate" href="https://feed.example/page"/>
<link rel="enclosure" type="application/x-bittorrent" href="../one"/></entry>
<entry><title>two</title><id>2</id><updated>2021-01-01T00:00:00Z</updated><link href="two.torrent?key=1"/></entry></feed>"#;
    assert_eq!(
        links(atom),
        [
            "https://feed.example/dir/two.torrent?key=1",
            "https://feed.example/one"
        ]
    );
}

#[test]
fn an_html_listing_is_read_as_web_servers_write_it() {
    let html = r#"<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN"><html><body><h1>Index of /dir</h1>
<a href="../">Parent</a> <A  HREF='My%20Movie.torrent'>x</A><a class=q href=b.TORRENT>y</a>
<a href="get?f=c.torrent&amp;k=1">skipped: ends otherwise</a><a href="get?k=1&amp;f=d.torrent">z</a>
<!-- <a href="hidden.torrent"> --><abbr href="no.torrent"></abbr><a title=">" href="magnet:?xt=urn:btih:aa&amp;dn=n">m</a>
<a href="file:///etc/passwd.torrent">"#;
    let (items, refused, _) = read(html);
    let found: Vec<_> = items
        .iter()
        .map(|i| (&*i.title, link_text(&i.link)))
        .collect();
    assert_eq!(
        found,
        [
            (
                "My Movie",
                "https://feed.example/dir/My%20Movie.torrent".to_owned()
            ),
            ("b.TORRENT", "https://feed.example/dir/b.TORRENT".to_owned()),
            (
                "get",
                "https://feed.example/dir/get?k=1&f=d.torrent".to_owned()
            ),
            ("n", "magnet:?xt=urn:btih:aa&dn=n".to_owned()),
        ]
    );
    assert_eq!(refused, 1);
}

#[test]
fn a_plain_listing_is_one_link_a_line() {
    let text = "# list\r\na.torrent\r\n/abs/b.torrent\nhttps://other.example/c.torrent\nREADME\nfile:///x.torrent\n";
    assert_eq!(
        links(text),
        [
            "https://feed.example/dir/a.torrent",
            "https://feed.example/abs/b.torrent",
            "https://other.example/c.torrent"
        ]
    );
    assert_eq!(read(text).1, 1);
}

#[test]
fn a_torrent_is_known_by_its_first_bytes() {
    let parsed = parse(b"d8:announce3:abce", Some("text/html"), &base()).unwrap();
    assert_eq!(parsed, Document::Torrent);
}

#[test]
fn e2_a_feed_names_no_files() {
    for link in [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://h/x",
        "data:application/x-bittorrent,x",
        "javascript:1",
    ] {
        let rss = format!(
            r#"<rss version="2.0"><channel><title/><link/><description/><item><title>x</title>
<enclosure url="{link}" length="1" type="application/x-bittorrent"/></item></channel></rss>"#
        );
        let (items, refused, _) = read(&rss);
        assert_eq!((items.len(), refused), (0, 1), "{link}");
    }
}

#[test]
fn e3_a_doctype_is_refused() {
    let bomb = r#"<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;">]><rss version="2.0"><channel><title>&lol2;</title></channel></rss>"#;
    assert_eq!(
        parse(bomb.as_bytes(), None, &base()),
        Err(FeedError::DocType)
    );
    let bare = r#"<!DOCTYPE rss SYSTEM "file:///etc/passwd"><rss version="2.0"/>"#;
    assert_eq!(
        parse(bare.as_bytes(), Some("text/html"), &base()),
        Err(FeedError::DocType)
    );
}

#[test]
fn e3_deep_nesting_is_refused_before_a_parser_recurses() {
    let deep = format!("<rss><channel><item>{}", "<q:a>".repeat(100_000));
    assert_eq!(
        parse(deep.as_bytes(), None, &base()),
        Err(FeedError::TooDeep)
    );
}

#[test]
fn e3_attribute_and_element_floods_are_refused() {
    let mut tag = String::from("<rss><channel><item><q:a");
    for n in 0..100_000 {
        write!(tag, " a{n}=''").unwrap();
    }
    tag.push_str("/></item></channel></rss>");
    assert_eq!(
        parse(tag.as_bytes(), None, &base()),
        Err(FeedError::TooManyElements)
    );
    let many = format!("<rss><channel><item>{}", "<q:a/>".repeat(400_001));
    assert_eq!(
        parse(many.as_bytes(), None, &base()),
        Err(FeedError::TooManyElements)
    );
    assert_eq!(
        parse(&vec![b' '; MAX_DOCUMENT + 1], None, &base()),
        Err(FeedError::TooLarge)
    );
}

#[test]
fn e4_of_a_hundred_thousand_items_ten_thousand_are_looked_at() {
    let mut rss = String::from(
        r#"<rss version="2.0"><channel><title>t</title><link>l</link><description>d</description>"#,
    );
    for n in 0..100_000 {
        write!(
            rss,
            "<item><title>i{n}</title><link>https://h.example/{n}.torrent</link></item>"
        )
        .unwrap();
    }
    rss.push_str("</channel></rss>");
    let (items, ..) = read(&rss);
    assert_eq!(items.len(), MAX_ITEMS);
    assert_eq!(items[0].title, "i0");
    let listing: String = (0..20_000)
        .map(|n| format!("<a href={n}.torrent>"))
        .collect();
    assert_eq!(read(&listing).0.len(), MAX_ITEMS);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes, None, &base());
    }

    #[test]
    fn any_markup_is_read_without_panic(parts in prop::collection::vec(
        prop::sample::select(vec!["<", ">", "a ", "href", "=", "\"", "'", "x.torrent", "<!--", "-->", "<rss>", "<item>",
            "</item>", "<?xml ", "&amp;", "<link>", "]]>", "<![CDATA[", "/", "\u{e9}", "<feed>", "<entry/>"]), 0..60,
    )) {
        let text: String = parts.concat();
        for kind in [None, Some("text/html"), Some("application/xml")] {
            if let Ok(Document::Items { items, .. }) = parse(text.as_bytes(), kind, &base()) {
                prop_assert!(items.len() <= MAX_ITEMS);
            }
        }
    }
}
