// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha1" //nolint:gosec // SPDX asks for it beside a better one
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// The names below are those of SPDX 2.3, ISO/IEC 5962: https://spdx.github.io/spdx-spec/v2.3/
type document struct {
	SPDXVersion       string         `json:"spdxVersion"`
	DataLicense       string         `json:"dataLicense"`
	SPDXID            string         `json:"SPDXID"`
	Name              string         `json:"name"`
	DocumentNamespace string         `json:"documentNamespace"`
	CreationInfo      creation       `json:"creationInfo"`
	Packages          []component    `json:"packages"`
	Files             []spdxFile     `json:"files"`
	Relationships     []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type component struct {
	SPDXID                string      `json:"SPDXID"`
	Name                  string      `json:"name"`
	VersionInfo           string      `json:"versionInfo,omitempty"`
	DownloadLocation      string      `json:"downloadLocation"`
	FilesAnalyzed         bool        `json:"filesAnalyzed"`
	LicenseDeclared       string      `json:"licenseDeclared,omitempty"`
	SourceInfo            string      `json:"sourceInfo,omitempty"`
	PrimaryPackagePurpose string      `json:"primaryPackagePurpose,omitempty"`
	Checksums             []checksum  `json:"checksums,omitempty"`
	ExternalRefs          []reference `json:"externalRefs,omitempty"`
}

type spdxFile struct {
	SPDXID    string     `json:"SPDXID"`
	FileName  string     `json:"fileName"`
	FileTypes []string   `json:"fileTypes"`
	Checksums []checksum `json:"checksums"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

const (
	documentID  = "SPDXRef-DOCUMENT"
	imageID     = "SPDXRef-Image"
	noAssertion = "NOASSERTION"
	projectURL  = "https://github.com/mqtt-operator/mqtt-operator"
)

// inventory says what is in an image: its programs, and from their own build information every module in them.
type inventory struct {
	name, version, arch string
	digest              string // of the image, sha256:…
	created             time.Time
	programs            map[string]string // path in the image: where the program lies here
}

// bill is the inventory as an SPDX document. Equal input gives an equal document, so its name and time say nothing of
// when and where it was written.
func (i inventory) bill() (document, error) {
	d := document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: documentID, Name: i.name + "-" + i.version + "-linux-" + i.arch,
		DocumentNamespace: projectURL + "/sbom/" + i.name + "/" + strings.Replace(i.digest, ":", "-", 1),
		CreationInfo:      creation{Created: i.created.UTC().Format("2006-01-02T15:04:05Z"), Creators: []string{"Organization: mqtt-operator", "Tool: hack/images"}},
		Packages: []component{{
			SPDXID: imageID, Name: i.name, VersionInfo: i.version, DownloadLocation: noAssertion, LicenseDeclared: "Apache-2.0",
			PrimaryPackagePurpose: "CONTAINER",
			Checksums:             []checksum{{"SHA256", strings.TrimPrefix(i.digest, "sha256:")}},
			ExternalRefs: []reference{purl("pkg:oci/" + i.name + "@" + url.QueryEscape(i.digest) + "?arch=" + i.arch +
				"&repository_url=" + registry + i.name)},
		}},
		Relationships: []relationship{{documentID, "DESCRIBES", imageID}},
	}
	known := map[string]bool{}
	add := func(c component) {
		if !known[c.SPDXID] {
			known[c.SPDXID] = true
			d.Packages = append(d.Packages, c)
		}
	}
	for _, at := range slices.Sorted(maps.Keys(i.programs)) {
		content, err := os.ReadFile(i.programs[at])
		if err != nil {
			return d, err
		}
		info, err := buildinfo.ReadFile(i.programs[at])
		if err != nil {
			return d, fmt.Errorf("%s: %w", at, err)
		}
		program := spdxFile{
			SPDXID: "SPDXRef-File" + identifier(at), FileName: "." + at, FileTypes: []string{"APPLICATION", "BINARY"},
			Checksums: []checksum{
				{"SHA1", fmt.Sprintf("%x", sha1.Sum(content))}, //nolint:gosec // see above
				{"SHA256", fmt.Sprintf("%x", sha256.Sum256(content))},
			},
		}
		d.Files = append(d.Files, program)
		ours := module(info.Main.Path, "v"+i.version)
		ours.DownloadLocation, ours.LicenseDeclared, ours.PrimaryPackagePurpose = "git+"+projectURL, "Apache-2.0", "APPLICATION"
		add(ours)
		d.Relationships = append(d.Relationships,
			relationship{imageID, "CONTAINS", program.SPDXID}, relationship{program.SPDXID, "GENERATED_FROM", ours.SPDXID})
		for _, dependency := range dependencies(info) {
			add(dependency)
			d.Relationships = append(d.Relationships, relationship{ours.SPDXID, "DEPENDS_ON", dependency.SPDXID})
		}
	}
	d.Relationships = unique(d.Relationships)
	return d, nil
}

// dependencies are the modules that are linked into a program, the standard library among them.
func dependencies(info *debug.BuildInfo) []component {
	library := module("stdlib", strings.TrimPrefix(info.GoVersion, "go"))
	library.LicenseDeclared = "BSD-3-Clause"
	all := []component{library}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := module(m.Path, m.Version)
		if m.Sum != "" {
			// Not a checksum of SPDX: Go sums a list of files and not one archive.
			c.SourceInfo = "go.sum: " + m.Sum
		}
		all = append(all, c)
	}
	return all
}

func module(name, version string) component {
	return component{
		SPDXID: "SPDXRef-Package-" + identifier(name+"-"+version), Name: name, VersionInfo: version, DownloadLocation: noAssertion,
		PrimaryPackagePurpose: "LIBRARY",
		ExternalRefs:          []reference{purl("pkg:golang/" + strings.ToLower(name) + "@" + strings.ReplaceAll(version, "+", "%2B"))},
	}
}

func purl(locator string) reference {
	return reference{Category: "PACKAGE-MANAGER", Type: "purl", Locator: locator}
}

// identifier is a text with the characters that SPDX allows. Two modules differ in more than those it replaces.
func identifier(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		default:
			return '-'
		}
	}, text)
}

func unique(all []relationship) []relationship {
	known := map[relationship]bool{}
	return slices.DeleteFunc(all, func(r relationship) bool {
		defer func() { known[r] = true }()
		return known[r]
	})
}

// write stores the document beside the archive of the image, as NAME.spdx.json.
func (d document) write(archive string) (string, error) {
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return "", err
	}
	to := strings.TrimSuffix(archive, path.Ext(archive)) + ".spdx.json"
	return to, os.WriteFile(to, append(text, '\n'), 0o644)
}
