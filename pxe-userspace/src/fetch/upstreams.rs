//! The URLs of files and of their published checksums, at the projects' own servers or at a site's mirrors.

use std::sync::Arc;

use reqwest::Url;

use crate::model::image_source::{ImageSource, Upstreams};

/// The reason why a text cannot be the address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// The text is not a URL.
    #[error("{text:?} is not a URL ({reason}); write it as https://mirror.example/talos")]
    NotAUrl {
        /// The text.
        text: String,
        /// The reason of the parser.
        reason: String,
    },
    /// The URL is not one of HTTP.
    #[error("{text:?} begins with {scheme}:, but only https: and http: can be fetched from")]
    Scheme {
        /// The text.
        text: String,
        /// The scheme.
        scheme: String,
    },
    /// The URL has a query or a fragment, which no file name can be appended to.
    #[error("{text:?} has a ? or # part; file names are appended to the URL, so it must end in a path")]
    Tail {
        /// The text.
        text: String,
    },
}

/// Returns the address of an upstream without a slash at its end, as [`Upstreams`] has it.
///
/// # Errors
///
/// If files cannot be fetched from below it.
pub fn base_url(text: &str) -> Result<Arc<str>, BaseUrlError> {
    let text = text.trim();
    let url =
        Url::parse(text).map_err(|error| BaseUrlError::NotAUrl { text: text.to_owned(), reason: error.to_string() })?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(BaseUrlError::Scheme { text: text.to_owned(), scheme: url.scheme().to_owned() });
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(BaseUrlError::Tail { text: text.to_owned() });
    }
    Ok(url.as_str().trim_end_matches('/').into())
}

/// Returns the URL of a file.
///
/// # Errors
///
/// If an upstream's address is not a URL. Those of [`base_url`] are.
pub(super) fn url(source: &ImageSource, upstreams: &Upstreams) -> Result<Url, BaseUrlError> {
    let text = source.url(upstreams);
    Url::parse(&text).map_err(|error| BaseUrlError::NotAUrl { text, reason: error.to_string() })
}

/// The lists of checksums that a project publishes next to its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublishedChecksums {
    /// The list of SHA-256 checksums.
    pub(super) sha256: Url,
    /// The list of SHA-512 checksums.
    pub(super) sha512: Url,
    /// The name of the file in both.
    pub(super) name: Arc<str>,
}

/// Returns the lists that have a file's checksums, or `None` if its project publishes none.
///
/// # Errors
///
/// As [`url`].
pub(super) fn checksums(
    source: &ImageSource,
    upstreams: &Upstreams,
) -> Result<Option<PublishedChecksums>, BaseUrlError> {
    match source {
        ImageSource::TalosRelease { version, file } => {
            let list = |file: &str| {
                url(&ImageSource::TalosRelease { version: Arc::clone(version), file: file.into() }, upstreams)
            };
            let name = Arc::clone(file);
            Ok(Some(PublishedChecksums { sha256: list("sha256sum.txt")?, sha512: list("sha512sum.txt")?, name }))
        }
        ImageSource::Factory { .. }
        | ImageSource::Ipxe { .. }
        | ImageSource::IpxeShim { .. }
        | ImageSource::IpxeSigned { .. } => Ok(None),
    }
}

/// Returns a URL as a text that may be logged: without user name, password and query. A query may hold a signature that is as good as a
/// password.
#[must_use]
pub(super) fn without_password(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail for URLs that cannot have them.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(file: &str) -> ImageSource {
        ImageSource::TalosRelease { version: "v1.13.0".into(), file: file.into() }
    }

    #[test]
    fn checksums_are_published_next_to_the_files_of_a_release() {
        let checksums_of = |source: &ImageSource| checksums(source, &Upstreams::default()).unwrap();
        let published = checksums_of(&release("vmlinuz-amd64")).unwrap();
        let release_url = "https://github.com/siderolabs/talos/releases/download/v1.13.0";
        assert_eq!(published.sha256.as_str(), format!("{release_url}/sha256sum.txt"));
        assert_eq!(published.sha512.as_str(), format!("{release_url}/sha512sum.txt"));
        assert_eq!(&*published.name, "vmlinuz-amd64");
        let schematic = "ab".repeat(32).into();
        let factory = ImageSource::Factory { schematic, version: "v1.13.0".into(), file: "kernel-amd64".into() };
        assert_eq!(checksums_of(&factory), None);
        assert_eq!(checksums_of(&ImageSource::Ipxe { path: "undionly.kpxe".into() }), None);
    }

    #[test]
    fn mirror_may_have_a_path_a_port_and_a_slash_at_its_end() {
        for text in
            ["http://mirror.example:8080/a/b", "http://mirror.example:8080/a/b/", " HTTP://Mirror.Example:8080/a/b"]
        {
            let mirror = Upstreams { talos: base_url(text).unwrap(), ..Upstreams::default() };
            let url = url(&release("vmlinuz-amd64"), &mirror).unwrap();
            assert_eq!(url.as_str(), "http://mirror.example:8080/a/b/v1.13.0/vmlinuz-amd64");
        }
        assert_eq!(&*base_url("https://mirror.example").unwrap(), "https://mirror.example");
    }

    #[test]
    fn password_and_signature_are_in_no_message() {
        let url = Url::parse("https://me:secret@m.example/f?X-Signature=secret#secret").unwrap();
        assert_eq!(without_password(&url), "https://m.example/f");
    }

    #[test]
    fn text_that_is_no_base_url_is_refused_with_a_reason() {
        for (text, reason) in [
            ("mirror.example/talos", "not a URL"),
            ("", "not a URL"),
            ("https://", "not a URL"),
            ("ftp://mirror.example/talos", "only https: and http:"),
            ("file:///srv/mirror", "only https: and http:"),
            ("https://mirror.example/?file=", "must end in a path"),
            ("https://mirror.example/#top", "must end in a path"),
        ] {
            let message = base_url(text).unwrap_err().to_string();
            assert!(message.contains(reason) && message.contains(text), "{message}");
        }
    }
}
