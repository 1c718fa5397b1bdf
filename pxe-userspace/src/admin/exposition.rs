//! The text of the metrics, in the format that `Accept` asks for.

use std::fmt;

use axum::http::{HeaderMap, header};
use prometheus_client::{encoding::text, registry::Registry};

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' text format, version 0.0.4: what curl and anything else gets that does not ask for another.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

const OPEN_METRICS: &str = "application/openmetrics-text";

impl Format {
    /// Returns the format that a request prefers (RFC 9110 §12.5.1).
    pub(super) fn wanted(request: &HeaderMap) -> Self {
        let (mut plain, mut open) = (0, 0);
        for list in request.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()) {
            for range in list.split(',') {
                let mut parts = range.split(';').map(str::trim);
                let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
                let (mut weight, mut version) = (1_000, None);
                for parameter in parts {
                    match parameter.split_once('=').map(|(name, value)| (name.trim(), value.trim().trim_matches('"'))) {
                        Some(("q", value)) => weight = thousandths(value),
                        Some(("version", value)) => version = Some(value),
                        _ => {}
                    }
                }
                match (media_type.as_str(), version) {
                    (OPEN_METRICS, None | Some("1.0.0" | "0.0.1")) => open = open.max(weight),
                    ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", None) => plain = plain.max(weight),
                    _ => {}
                }
            }
        }
        if open > 0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the type of the answer.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Returns a weight such as `0.75` in thousandths, 0 for anything that is none.
fn thousandths(weight: &str) -> u32 {
    let weight: f64 = weight.parse().unwrap_or(0.0);
    (weight.clamp(0.0, 1.0) * 1_000.0) as u32
}

/// Returns the metrics of a registry.
pub(super) fn encode(registry: &Registry, format: Format) -> Result<String, fmt::Error> {
    let mut text = String::new();
    text::encode(&mut text, registry)?;
    Ok(match format {
        Format::OpenMetrics => text,
        Format::Prometheus => to_prometheus(&text),
    })
}

/// Writes OpenMetrics in Prometheus' format: there the family of a counter has the name of its samples, and there is no end.
fn to_prometheus(text: &str) -> String {
    let mut converted = String::with_capacity(text.len() + 4_096);
    // A family begins with its help, and its type follows.
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some((_, text)) = help.take() {
                converted.extend(["# HELP ", name, suffix, " ", text, "\n"]);
            }
            converted.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            converted.extend([line, "\n"]);
        }
    }
    converted
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::{Format::*, *};

    #[test]
    fn format_is_the_one_that_accept_prefers() {
        for (accept, expected) in [
            (None, Prometheus),
            (Some("*/*"), Prometheus),
            (Some("text/html, */*"), Prometheus),
            (Some("text/plain;version=0.0.4"), Prometheus),
            (Some("application/openmetrics-text"), OpenMetrics),
            (Some("Application/OpenMetrics-Text; version=1.0.0; charset=utf-8"), OpenMetrics),
            (Some("application/openmetrics-text;version=\"1.0.0\";q=0.5,text/plain;q=0.4"), OpenMetrics),
            (Some("application/openmetrics-text;q=0.4,text/plain;version=0.0.4;q=0.5"), Prometheus),
            (Some("application/openmetrics-text;q=0"), Prometheus),
            (Some("application/openmetrics-text;version=2.0.0"), Prometheus),
            (Some("application/openmetrics-text;q=x"), Prometheus),
            (Some(";;==,,"), Prometheus),
            // Prometheus 2 and 3.
            (
                Some(
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ),
                OpenMetrics,
            ),
            (
                Some(
                    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,text/plain;version=0.0.4;q=0.2",
                ),
                Prometheus,
            ),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            }
            assert_eq!(Format::wanted(&headers), expected, "{accept:?}");
        }
    }

    #[test]
    fn counters_are_named_by_their_samples() {
        let open = "# HELP a_b Counted.\n# TYPE a_b counter\n# UNIT a_b bytes\na_b_total{c=\"# EOF\"} 1\n\
                    # HELP g Gauged.\n# TYPE g gauge\ng 2\n# HELP i About.\n# TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n";
        let expected = "# HELP a_b_total Counted.\n# TYPE a_b_total counter\na_b_total{c=\"# EOF\"} 1\n\
                        # HELP g Gauged.\n# TYPE g gauge\ng 2\n# HELP i_info About.\n# TYPE i_info gauge\ni_info{v=\"1\"} 1\n";
        assert_eq!(to_prometheus(open), expected);
    }
}
