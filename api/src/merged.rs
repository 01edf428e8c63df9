//! Commands and queries on one path come from different files; in the documentation they stand
//! together.

use std::collections::{BTreeMap, HashMap};

use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem_openapi::OpenApi;
use poem_openapi::registry::{MetaApi, MetaOperation, MetaPath, Registry};

/// APIs that share paths.
pub(crate) struct Merged<T>(pub(crate) T);

impl<T: OpenApi> OpenApi for Merged<T> {
    fn meta() -> Vec<MetaApi> {
        let mut paths: BTreeMap<String, Vec<MetaOperation>> = BTreeMap::new();
        for path in T::meta().into_iter().flat_map(|api| api.paths) {
            paths.entry(path.path).or_default().extend(path.operations);
        }
        let path = |(path, operations)| MetaPath { path, operations };
        let paths = paths.into_iter().map(path).collect();
        vec![MetaApi { paths }]
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, table: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {
        self.0.add_routes(table);
    }
}
