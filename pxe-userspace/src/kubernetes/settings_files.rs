//! The files that lead to the API server, and whether programs do.

use std::{
    env,
    path::{Path, PathBuf},
};

use kube::config::{AuthInfo, Kubeconfig};

use super::client::{IN_CLUSTER, Settings};

/// The service account of a pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The things that the connection to the API server needs as long as pxed runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files and directories that are read again and again.
    pub files: Vec<PathBuf>,
    /// Set if credentials come from a program that a kubeconfig names.
    pub runs_programs: bool,
}

impl Settings {
    /// Returns the files that lead to the API server. A kubeconfig that cannot be read now is among them, without those that it names.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let kubeconfigs = match (&self.kubeconfig, env::var_os(IN_CLUSTER)) {
            (Some(path), _) => vec![path.clone()],
            (None, Some(_)) => return Needs { files: vec![SERVICE_ACCOUNT.into()], runs_programs: false },
            (None, None) => usual(env::var_os("KUBECONFIG").as_deref().map(Path::new), env::home_dir()),
        };
        let mut needs = Needs::default();
        for path in kubeconfigs {
            // A FIFO would be waited for; whoever connects says what is wrong with it.
            if path.is_file()
                && let Ok(kubeconfig) = Kubeconfig::read_from(&path)
            {
                needs.add(&kubeconfig);
            }
            needs.files.push(path);
        }
        needs
    }
}

/// Returns the kubeconfigs that are read if none is named.
fn usual(of_environment: Option<&Path>, home: Option<PathBuf>) -> Vec<PathBuf> {
    match of_environment {
        Some(paths) => env::split_paths(paths).filter(|path| !path.as_os_str().is_empty()).collect(),
        None => home.map(|home| home.join(".kube/config")).into_iter().collect(),
    }
}

impl Needs {
    fn add(&mut self, kubeconfig: &Kubeconfig) {
        let clusters = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
        let accounts = || kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
        let of_account = |AuthInfo { client_certificate, client_key, token_file, .. }: &AuthInfo| {
            [client_certificate.clone(), client_key.clone(), token_file.clone()]
        };
        let files = clusters.filter_map(|cluster| cluster.certificate_authority.clone());
        self.files.extend(files.chain(accounts().flat_map(of_account).flatten()).map(PathBuf::from));
        self.runs_programs |= accounts().any(|account| account.exec.is_some() || account.auth_provider.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(text: &str) -> Needs {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(&path, text).unwrap();
        let mut needs = Settings { kubeconfig: Some(path.clone()), ..Settings::default() }.needs();
        assert_eq!(needs.files.pop().unwrap(), path);
        needs
    }

    #[test]
    fn files_and_programs_of_a_kubeconfig_are_found() {
        let text = "clusters: [{name: c, cluster: {server: 'https://a', certificate-authority: /k/ca.pem}}]\n\
                    users: [{name: u, user: {client-certificate: /k/u.pem, client-key: /k/u.key, tokenFile: /k/token}}]\n";
        let Needs { files, runs_programs } = needs(text);
        assert_eq!(files, ["/k/ca.pem", "/k/u.pem", "/k/u.key", "/k/token"].map(PathBuf::from));
        assert!(!runs_programs);
        let text = "users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: aws}}}]\n";
        assert!(needs(text).runs_programs);
    }

    #[test]
    fn unreadable_kubeconfig_needs_itself_alone() {
        assert_eq!(needs("%: ["), Needs::default());
        let missing = Settings { kubeconfig: Some("/not/there".into()), ..Settings::default() };
        assert_eq!(missing.needs().files, [PathBuf::from("/not/there")]);
    }

    #[test]
    fn kubeconfig_is_looked_for_where_kubectl_does() {
        let home = || Some(PathBuf::from("/home/a"));
        assert_eq!(usual(None, home()), [PathBuf::from("/home/a/.kube/config")]);
        assert_eq!(usual(Some(Path::new("/x:/y:")), home()), [PathBuf::from("/x"), PathBuf::from("/y")]);
        assert!(usual(None, None).is_empty());
    }
}
