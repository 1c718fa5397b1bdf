//! The options about the API of Kubernetes.

use std::{
    env,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{artifacts, kubernetes::Settings};

/// The options about the API of Kubernetes. `pxed run`, `pxed fetch` and `pxed validate` have the same ones.
#[derive(Debug, Default, clap::Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct KubernetesArgs {
    /// The cluster spec is in the API of Kubernetes: TalosCluster, TalosControlPlane, TalosWorker and TalosMachine are watched
    /// instead of files [default: false]
    #[arg(
        long,
        env = "PXED_KUBERNETES",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new(),
        hide_possible_values = true
    )]
    pub(super) kubernetes: Option<bool>,
    /// Kubeconfig for --kubernetes. Without it, the service account of the pod is used, or else $KUBECONFIG or ~/.kube/config
    #[arg(long, env = "PXED_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespaces whose objects count with --kubernetes; without it, those of all namespaces
    #[arg(long, env = "PXED_NAMESPACE", value_name = "NS", num_args = 1.., value_delimiter = ',')]
    namespace: Vec<String>,
}

impl KubernetesArgs {
    /// Returns the settings in force, with those of the `--config` file, or `None` if the API is not used.
    ///
    /// # Errors
    ///
    /// If an option makes no sense.
    pub(super) fn over(self, file: Self) -> anyhow::Result<Option<Settings>> {
        self.over_file(file, |variable| env::var(variable).ok())
    }

    fn over_file(self, file: Self, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Settings>> {
        let Self { kubernetes, kubeconfig, namespace } = self;
        let is_typed = |name: &str, value: &str| !value.is_empty() && variable(name).as_deref() != Some(value);
        let path = kubeconfig.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let named = [
            ("--kubeconfig", is_typed("PXED_KUBECONFIG", &path)),
            ("--namespace", is_typed("PXED_NAMESPACE", &namespace.join(","))),
        ];
        let is_used = kubernetes.or(file.kubernetes).unwrap_or(false);
        let mut namespaces = if namespace.is_empty() { file.namespace } else { namespace };
        namespaces.sort_unstable();
        namespaces.dedup();
        for namespace in namespaces.iter().filter(|_| is_used) {
            anyhow::ensure!(
                is_label(namespace),
                "--namespace {namespace:?} is not the name of a namespace: lower-case letters, digits and hyphens"
            );
        }
        if is_used {
            return Ok(Some(Settings { kubeconfig: kubeconfig.or(file.kubeconfig), namespaces }));
        }
        // Those of the environment or the file may be there for other commands, but what is written on the command line is meant.
        if let Some((option, _)) = named.into_iter().find(|(_, is_named)| *is_named).filter(|_| kubernetes.is_none()) {
            anyhow::bail!("{option} is about the API of Kubernetes: add --kubernetes, or leave it away");
        }
        Ok(None)
    }
}

/// Returns `true` for a label of DNS (RFC 1123), as namespaces are.
fn is_label(name: &str) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| is_alphanumeric(byte) || *byte == b'-')
        && bytes.first().is_some_and(is_alphanumeric)
        && bytes.last().is_some_and(is_alphanumeric)
}

/// Returns the options that lead to the same objects, as a person types them.
pub(super) fn as_typed(Settings { kubeconfig, namespaces }: &Settings) -> String {
    let mut line = "--kubernetes".to_owned();
    if let Some(path) = kubeconfig {
        line.extend([" --kubeconfig ", &artifacts::quoted(path)]);
    }
    if !namespaces.is_empty() {
        line.push_str(" --namespace");
        namespaces.iter().for_each(|namespace| line.extend([" ", &artifacts::quoted(Path::new(namespace))]));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(kubernetes: Option<bool>, kubeconfig: Option<&str>, namespace: &[&str]) -> KubernetesArgs {
        let namespace = namespace.iter().map(ToString::to_string).collect();
        KubernetesArgs { kubernetes, kubeconfig: kubeconfig.map(PathBuf::from), namespace }
    }

    #[test]
    fn command_line_takes_precedence_over_the_file() {
        let settings = |line, file| -> Option<Settings> { KubernetesArgs::over(line, file).unwrap() };
        let none = || args(None, None, &[]);
        assert_eq!(settings(none(), none()), None);
        let of_file = || args(Some(true), Some("/f"), &["b", "a", "b"]);
        let expected = Settings { kubeconfig: Some("/f".into()), namespaces: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(settings(none(), of_file()), Some(expected));
        let own = settings(args(None, Some("/g"), &["c"]), of_file()).unwrap();
        assert_eq!((own.kubeconfig, own.namespaces), (Some("/g".into()), vec!["c".to_owned()]));
        assert_eq!(settings(args(Some(false), None, &[]), of_file()), None);
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let refused =
            |line: KubernetesArgs| line.over_file(KubernetesArgs::default(), |_| None).unwrap_err().to_string();
        assert!(refused(args(None, Some("/f"), &[])).starts_with("--kubeconfig"));
        assert!(refused(args(None, None, &["a"])).starts_with("--namespace"));
        for name in ["", "A", "a_b", "-a", "a-", "a/b", &"a".repeat(64)] {
            assert!(refused(args(Some(true), None, &[name])).contains("not the name of a namespace"), "{name}");
        }
    }

    #[test]
    fn environment_without_the_api_is_for_other_commands() {
        let set = |variable: &str| {
            let value = match variable {
                "PXED_KUBECONFIG" => "/f",
                "PXED_NAMESPACE" => "a,Not One",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let over = |line: KubernetesArgs| line.over_file(KubernetesArgs::default(), set);
        assert_eq!(over(args(None, Some("/f"), &["a", "Not One"])).unwrap(), None);
        assert!(over(args(Some(true), Some("/f"), &["a", "Not One"])).is_err());
        // A typed option takes precedence over it.
        assert!(over(args(None, Some("/g"), &[])).unwrap_err().to_string().starts_with("--kubeconfig"));
        assert!(over(args(None, None, &["a"])).unwrap_err().to_string().starts_with("--namespace"));
    }

    #[test]
    fn options_are_told_as_they_are_typed() {
        let settings = args(Some(true), Some("/a b"), &["x", "y"]).over(KubernetesArgs::default()).unwrap().unwrap();
        assert_eq!(as_typed(&settings), "--kubernetes --kubeconfig '/a b' --namespace x y");
        assert_eq!(as_typed(&Settings::default()), "--kubernetes");
    }
}
