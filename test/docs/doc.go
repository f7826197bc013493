// SPDX-License-Identifier: Apache-2.0

// Package docs holds the tests of what users read: README.md, the pages of docs/ and every other Markdown file.
//
//	markdown_test.go  a page as links, headings, tables and code blocks
//	docs_test.go      links lead somewhere; fields, reasons, defaults and Secrets are those of the code
//	proofs_test.go    tests that the table of attacks names, and fuzz targets, are there
//	reference_test.go every field of a kind is on its generated page, once
//	rules_test.go     the examples of access-rules.md against package acl
//	namespaces_test.go the admission policy of namespaces.md refuses what it should
//	objects_test.go   every YAML example against the types and a real API server
package docs
