//! The layering of ARCHITECTURE.md, checked against the sources: each module of `pxe-userspace` imports only what its row
//! allows, and the files of no crate import each other in a circle.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests may fail by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Item, UseTree, visit::Visit};

/// A module by its path from the root of its crate: `["tftp", "worker"]`.
type ModulePath = Vec<String>;

/// The sources of one crate, without its tests.
#[derive(Default)]
struct Sources {
    /// The file of each module. An inline module has the file around it.
    files: BTreeMap<ModulePath, PathBuf>,
    /// The names that `use` brings into a module, with the paths that they stand for.
    names: BTreeMap<(ModulePath, String), ModulePath>,
    /// Every path that a module mentions, from the crate's root on.
    mentions: BTreeSet<(ModulePath, ModulePath)>,
}

impl Sources {
    fn read(directory: &Path) -> Self {
        let mut sources = Self::default();
        let root = ["lib.rs", "main.rs"].into_iter().map(|name| directory.join(name)).find(|path| path.exists());
        sources.read_file(&root.unwrap_or_else(|| panic!("{} has no root", directory.display())), &[]);
        sources
    }

    fn read_file(&mut self, file: &Path, module: &[String]) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.read_items(&parsed.items, file, module);
    }

    fn read_items(&mut self, items: &[Item], file: &Path, module: &[String]) {
        self.files.insert(module.to_vec(), file.to_owned());
        for item in items {
            match item {
                Item::Mod(inner) if is_test(&inner.attrs) => {}
                Item::Mod(inner) => {
                    let path = joined(module, &inner.ident.to_string());
                    match &inner.content {
                        Some((_, items)) => self.read_items(items, file, &path),
                        None => self.read_file(&file_of(file, module, &inner.ident.to_string()), &path),
                    }
                }
                Item::Use(inner) if is_test(&inner.attrs) => {}
                Item::Use(inner) => self.read_use(&inner.tree, &mut Vec::new(), module),
                item => Mentions { sources: self, module }.visit_item(item),
            }
        }
    }

    fn read_use(&mut self, tree: &UseTree, prefix: &mut Vec<String>, module: &[String]) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.read_use(&path.tree, prefix, module);
                prefix.pop();
            }
            UseTree::Name(name) => self.read_name(prefix, &name.ident.to_string(), &name.ident.to_string(), module),
            UseTree::Rename(name) => self.read_name(prefix, &name.ident.to_string(), &name.rename.to_string(), module),
            UseTree::Glob(_) => self.mention(prefix, module),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.read_use(tree, prefix, module)),
        }
    }

    fn read_name(&mut self, prefix: &[String], name: &str, visible: &str, module: &[String]) {
        let path = if name == "self" { prefix.to_vec() } else { joined(prefix, name) };
        if let Some(target) = absolute(&path, module, &self.files) {
            let visible = if visible == "self" { path.last().cloned().unwrap_or_default() } else { visible.to_owned() };
            self.names.insert((module.to_vec(), visible), target);
        }
        self.mention(&path, module);
    }

    fn mention(&mut self, path: &[String], module: &[String]) {
        if let Some(target) = absolute(path, module, &self.files) {
            self.mentions.insert((module.to_vec(), target));
        }
    }

    /// Returns the module that defines the path's target, following re-exports.
    fn home(&self, path: &[String]) -> ModulePath {
        let mut path = path.to_vec();
        // A chain of re-exports is no longer than the number of modules.
        for _ in 0..self.files.len() {
            let depth = (0..=path.len()).rev().find(|&depth| self.files.contains_key(&path[..depth])).unwrap_or(0);
            let module = path[..depth].to_vec();
            let Some(name) = path.get(depth) else { return module };
            let Some(target) = self.names.get(&(module.clone(), name.clone())) else { return module };
            path = target.iter().chain(&path[depth + 1..]).cloned().collect();
        }
        path
    }

    /// Returns the files that each file imports from.
    fn imports(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let mut imports = BTreeMap::<_, BTreeSet<_>>::new();
        for (module, path) in &self.mentions {
            let (from, to) = (&*self.files[module], &*self.files[&self.home(path)]);
            if from != to {
                imports.entry(from).or_default().insert(to);
            }
        }
        imports
    }
}

/// Collects the paths in an item that is neither a `use` nor a module.
struct Mentions<'a> {
    sources: &'a mut Sources,
    module: &'a [String],
}

impl<'ast> Visit<'ast> for Mentions<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        // A single name may be a variable. If it is an import, its `use` counts.
        if segments.len() > 1 {
            self.sources.mention(&segments, self.module);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.sources.read_use(&item.tree, &mut Vec::new(), self.module);
    }

    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {}

    /// `pub(super)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            syn::visit::visit_impl_item_fn(self, item);
        }
    }
}

fn joined(path: &[String], name: &str) -> ModulePath {
    path.iter().cloned().chain([name.to_owned()]).collect()
}

/// Returns a path that begins with `crate`, `super`, `self` or a child module from the crate's root on; `None` for all others.
fn absolute(path: &[String], module: &[String], files: &BTreeMap<ModulePath, PathBuf>) -> Option<ModulePath> {
    let first = path.first()?;
    let (base, rest) = match first.as_str() {
        "crate" => (&[][..], &path[1..]),
        "self" => (module, &path[1..]),
        "super" => {
            let up = path.iter().take_while(|segment| *segment == "super").count();
            (&module[..module.len().checked_sub(up)?], &path[up..])
        }
        child if files.contains_key(&joined(module, child)) => (module, path),
        _ => return None,
    };
    Some(base.iter().chain(rest).cloned().collect())
}

/// Returns the file of `mod name;` in `file`.
fn file_of(file: &Path, module: &[String], name: &str) -> PathBuf {
    let directory = file.parent().unwrap_or(Path::new(""));
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let below = if matches!(stem, "lib" | "main" | "mod") {
        directory.to_owned()
    } else {
        directory.join(module.last().map_or(stem, String::as_str))
    };
    let flat = below.join(format!("{name}.rs"));
    if flat.exists() { flat } else { below.join(name).join("mod.rs") }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_cfg_test = attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"));
        is_cfg_test || attribute.path().is_ident("test")
    })
}

/// Returns a circle of files, if there is one: each imports the next, and the last the first.
fn circle<'a>(imports: &BTreeMap<&'a Path, BTreeSet<&'a Path>>) -> Option<Vec<&'a Path>> {
    fn visit<'a>(
        file: &'a Path,
        imports: &BTreeMap<&'a Path, BTreeSet<&'a Path>>,
        way: &mut Vec<&'a Path>,
        done: &mut BTreeSet<&'a Path>,
    ) -> Option<Vec<&'a Path>> {
        if let Some(start) = way.iter().position(|&passed| passed == file) {
            return Some(way[start..].to_vec());
        }
        if done.contains(file) {
            return None;
        }
        way.push(file);
        let found = imports.get(file).into_iter().flatten().find_map(|next| visit(next, imports, way, done));
        way.pop();
        done.insert(file);
        found
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|file| visit(file, imports, &mut Vec::new(), &mut done))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}

/// Returns the modules that each module may import, by the last column of the table in ARCHITECTURE.md.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    let table = text.lines().skip_while(|line| !(line.starts_with("| module") && line.contains("may import")));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    rows.filter_map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        Some((words(cells.first()?).pop_first()?, words(cells.last()?)))
    })
    .collect()
}

#[test]
fn modules_import_what_the_architecture_allows() {
    let allowed = allowed();
    assert!(allowed.len() > 10, "ARCHITECTURE.md has no table of modules: {allowed:?}");
    let directory = workspace().join("pxe-userspace/src");
    let sources = Sources::read(&directory);
    let module_of = |file: &Path| {
        let first = file.strip_prefix(&directory).ok()?.components().next()?;
        Some(first.as_os_str().to_str()?.trim_end_matches(".rs").to_owned())
    };
    let mut faults = Vec::new();
    for (from, targets) in sources.imports() {
        let Some(module) = module_of(from).filter(|module| !matches!(module.as_str(), "lib" | "main")) else {
            continue;
        };
        let Some(may) = allowed.get(&module) else {
            faults.push(format!("module {module:?} has no row in ARCHITECTURE.md"));
            continue;
        };
        for to in targets {
            let Some(target) = module_of(to) else { continue };
            if target != module && !may.contains(&target) {
                let (from, to) = (relative(from), relative(to));
                faults.push(format!("{from} imports {to}: `{module}` may not import `{target}` (ARCHITECTURE.md)"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn files_import_each_other_in_no_circle() {
    let mut faults = Vec::new();
    let mut crates = 0;
    for entry in fs::read_dir(workspace()).unwrap() {
        let directory = entry.unwrap().path().join("src");
        if !directory.join("lib.rs").exists() && !directory.join("main.rs").exists() {
            continue;
        }
        crates += 1;
        let sources = Sources::read(&directory);
        let mut imports = sources.imports();
        while let Some(circle) = circle(&imports) {
            let way: Vec<_> = circle.iter().chain(circle.first()).map(|file| relative(file)).collect();
            faults.push(way.join(" → "));
            // Remove one arrow, so that the next circle is found.
            imports.get_mut(circle[0]).unwrap().remove(circle[1 % circle.len()]);
        }
    }
    assert!(crates >= 5, "only {crates} crates found");
    assert!(faults.is_empty(), "files that import each other:\n{}", faults.join("\n"));
}

#[test]
fn circle_is_found_in_a_graph_that_has_one() {
    let graph = |edges: &[(&'static str, &'static str)]| {
        let mut imports = BTreeMap::<&'static Path, BTreeSet<&'static Path>>::new();
        for &(from, to) in edges {
            imports.entry(Path::new(from)).or_default().insert(Path::new(to));
        }
        imports
    };
    assert_eq!(circle(&graph(&[("a", "b"), ("a", "c"), ("b", "c")])), None);
    let found = circle(&graph(&[("a", "b"), ("b", "c"), ("c", "b")])).unwrap();
    assert_eq!(found, [Path::new("b"), Path::new("c")]);
}
