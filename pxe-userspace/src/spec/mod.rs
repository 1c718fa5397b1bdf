//! The cluster spec: `TalosCluster`, `TalosControlPlane`, `TalosWorker` and `TalosMachine` documents
//! become an [`Inventory`](crate::inventory::Inventory), or a list of every error with file, line and field.
