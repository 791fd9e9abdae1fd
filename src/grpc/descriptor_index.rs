//! Finds the proto file that describes a name, for reflection.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

use crate::api::FILE_DESCRIPTOR_SET;

/// The file that describes each name.
pub(super) struct DescriptorIndex {
    files: BTreeMap<String, IndexedFile>,
    /// Fully qualified name -> file.
    pub(super) symbols: BTreeMap<String, String>,
    /// Extended message -> field number -> file.
    pub(super) extensions: BTreeMap<String, BTreeMap<i32, String>>,
}

struct IndexedFile {
    encoded: Vec<u8>,
    imports: Vec<String>,
}

/// A descriptor set whose files stay encoded. Decoding would lose their custom options.
#[derive(Clone, PartialEq, Message)]
struct EncodedFiles {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

// === impl DescriptorIndex ===

impl DescriptorIndex {
    pub(super) fn new() -> Self {
        let set = EncodedFiles::decode(FILE_DESCRIPTOR_SET).expect("the build wrote a descriptor set");
        let mut index = Self { files: BTreeMap::new(), symbols: BTreeMap::new(), extensions: BTreeMap::new() };
        for encoded in set.file {
            let file = FileDescriptorProto::decode(&*encoded).expect("the build wrote whole files");
            index.add(&file);
            index.files.insert(file.name().into(), IndexedFile { encoded, imports: file.dependency });
        }
        index
    }

    fn add(&mut self, file: &FileDescriptorProto) {
        let (name, scope) = (file.name(), file.package());
        for message in &file.message_type {
            self.add_message(name, scope, message);
        }
        for enumeration in &file.enum_type {
            self.add_enum(name, scope, enumeration);
        }
        self.add_extensions(name, scope, &file.extension);
        for service in &file.service {
            let service_name = self.add_symbol(name, scope, service.name());
            for method in &service.method {
                self.add_symbol(name, &service_name, method.name());
            }
        }
    }

    fn add_message(&mut self, file: &str, scope: &str, message: &DescriptorProto) {
        let scope = &self.add_symbol(file, scope, message.name());
        for field in &message.field {
            self.add_symbol(file, scope, field.name());
        }
        for oneof in &message.oneof_decl {
            self.add_symbol(file, scope, oneof.name());
        }
        for nested in &message.nested_type {
            self.add_message(file, scope, nested);
        }
        for enumeration in &message.enum_type {
            self.add_enum(file, scope, enumeration);
        }
        self.add_extensions(file, scope, &message.extension);
    }

    fn add_enum(&mut self, file: &str, scope: &str, enumeration: &EnumDescriptorProto) {
        self.add_symbol(file, scope, enumeration.name());
        // The scope of a value is the scope that holds its enum (C++ scoping).
        for value in &enumeration.value {
            self.add_symbol(file, scope, value.name());
        }
    }

    fn add_extensions(&mut self, file: &str, scope: &str, extensions: &[FieldDescriptorProto]) {
        for extension in extensions {
            self.add_symbol(file, scope, extension.name());
            let extended = extension.extendee().trim_start_matches('.').to_owned();
            self.extensions.entry(extended).or_default().insert(extension.number(), file.into());
        }
    }

    fn add_symbol(&mut self, file: &str, scope: &str, name: &str) -> String {
        let full = if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") };
        self.symbols.insert(full.clone(), file.into());
        full
    }

    /// The encoded file, then all of its imports.
    pub(super) fn file(&self, name: &str) -> Option<Vec<Vec<u8>>> {
        let mut wanted = vec![self.files.get_key_value(name)?.0.as_str()];
        let mut seen = BTreeSet::new();
        let mut encoded = Vec::new();
        while let Some(name) = wanted.pop() {
            let Some(file) = self.files.get(name) else { continue };
            if seen.insert(name) {
                encoded.push(file.encoded.clone());
                wanted.extend(file.imports.iter().map(String::as_str));
            }
        }
        Some(encoded)
    }
}
