// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	spdx "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"
)

// sources are what the build stages of both Dockerfiles copy.
var sources = []string{"go.mod", "go.sum", "Dockerfile", "api", "broker-image", "cmd", "controllers"}

// The images of the product: made here and from a copy elsewhere they are the same, and their bills of materials name what
// is in them.
func TestImagesOfTheProduct(t *testing.T) {
	const root = "../.."
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	for _, name := range sources {
		from, to := filepath.Join(root, name), filepath.Join(elsewhere, name)
		info, err := os.Stat(from)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			err = os.CopyFS(to, os.DirFS(from))
		} else {
			var text []byte
			if text, err = os.ReadFile(from); err == nil {
				err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, 0o600))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	here, there := t.TempDir(), t.TempDir()
	for source, out := range map[string]string{root: here, elsewhere: there} {
		args := []string{"--source", source, "--out", out, "--version", "1.2.3", "--revision", "abc"}
		if err := run(t.Context(), args, os.Stderr); err != nil {
			t.Fatal(err)
		}
	}
	sums := readSums(t, filepath.Join(root, "go.sum"))
	for _, target := range targets {
		t.Run(target.Name, func(t *testing.T) {
			same(t, here, there, target)
			archive := filepath.Join(here, target.Archive)
			text, err := os.ReadFile(strings.TrimSuffix(archive, ".tar") + ".spdx.json")
			if err != nil {
				t.Fatal(err)
			}
			bill := readBill(t, text)
			keepsTheRules(t, bill)
			namesTheImage(t, bill, archive)
			namesTheModules(t, bill, archive, sums)
		})
	}
}

// readBill reads a bill of materials with the reader of the SPDX project, and sees to it that the reader has understood
// every field.
func readBill(t *testing.T, text []byte) *v2_3.Document {
	t.Helper()
	var bill v2_3.Document
	if err := spdx.ReadInto(bytes.NewReader(text), &bill); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(&bill)
	if err != nil {
		t.Fatal(err)
	}
	understood := fields(t, again)
	for field := range fields(t, text) {
		if !understood[field] {
			t.Errorf("SPDX 2.3 has no field %s", field)
		}
	}
	return &bill
}

// fields are the paths of all fields in a document.
func fields(t *testing.T, text []byte) map[string]bool {
	t.Helper()
	var whole any
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	var walk func(string, any)
	walk = func(path string, at any) {
		switch v := at.(type) {
		case map[string]any:
			for key, inner := range v {
				found[path+"."+key] = true
				walk(path+"."+key, inner)
			}
		case []any:
			for _, inner := range v {
				walk(path+"[]", inner)
			}
		}
	}
	walk("", whole)
	return found
}

var (
	identifiers = regexp.MustCompile(`^[A-Za-z0-9.-]+$`)
	golangPURL  = regexp.MustCompile(`^pkg:golang/[a-z0-9._~/-]+@[A-Za-z0-9._%-]+$`)
)

// keepsTheRules looks at what SPDX 2.3 requires of every document.
func keepsTheRules(t *testing.T, bill *v2_3.Document) {
	t.Helper()
	if bill.SPDXVersion != "SPDX-2.3" || bill.DataLicense != "CC0-1.0" || bill.SPDXIdentifier != "DOCUMENT" || bill.DocumentName == "" {
		t.Errorf("the document is %s %s %s %q", bill.SPDXVersion, bill.DataLicense, bill.SPDXIdentifier, bill.DocumentName)
	}
	if u, err := url.Parse(bill.DocumentNamespace); err != nil || !u.IsAbs() || u.Host == "" || u.Fragment != "" {
		t.Errorf("the namespace %q is no absolute address without a fragment: %v", bill.DocumentNamespace, err)
	}
	if at, err := time.Parse("2006-01-02T15:04:05Z", bill.CreationInfo.Created); err != nil || at.Unix() != 1700000000 {
		t.Errorf("created %s, want the time of SOURCE_DATE_EPOCH: %v", bill.CreationInfo.Created, err)
	}
	for _, creator := range bill.CreationInfo.Creators {
		if creator.CreatorType != "Tool" && creator.CreatorType != "Organization" || creator.Creator == "" {
			t.Errorf("created by %s %q", creator.CreatorType, creator.Creator)
		}
	}
	if len(bill.CreationInfo.Creators) == 0 {
		t.Error("nobody created it")
	}
	if err := spdxlib.ValidateDocument(bill); err != nil {
		t.Error(err)
	}
	seen := map[common.ElementID]bool{}
	name := func(id common.ElementID) {
		if seen[id] || !identifiers.MatchString(string(id)) {
			t.Errorf("the identifier %q is used twice, or has other characters than letters, digits, dots and hyphens", id)
		}
		seen[id] = true
	}
	for _, p := range bill.Packages {
		name(p.PackageSPDXIdentifier)
		if p.PackageName == "" || p.PackageVersion == "" || p.PackageDownloadLocation == "" || p.FilesAnalyzed || p.PackageVerificationCode != nil {
			t.Errorf("%s: name %q, version %q, location %q, files analyzed: %t", p.PackageSPDXIdentifier, p.PackageName, p.PackageVersion,
				p.PackageDownloadLocation, p.FilesAnalyzed)
		}
		if len(p.PackageExternalReferences) != 1 || p.PackageExternalReferences[0].Category != "PACKAGE-MANAGER" || p.PackageExternalReferences[0].RefType != "purl" {
			t.Errorf("%s has no purl: %v", p.PackageName, p.PackageExternalReferences)
		}
	}
	for _, f := range bill.Files {
		name(f.FileSPDXIdentifier)
		if f.Checksums[0].Algorithm != common.SHA1 || !strings.HasPrefix(f.FileName, "./") {
			t.Errorf("%s: the path is to be relative, and SHA1 is asked for: %v", f.FileName, f.Checksums)
		}
	}
	described := 0
	for _, r := range bill.Relationships {
		if r.Relationship == common.TypeRelationshipDescribe && r.RefA.ElementRefID == "DOCUMENT" {
			described++
		}
	}
	if described != 1 {
		t.Errorf("the document describes %d things, want the image", described)
	}
}

// namesTheImage compares the bill with the digest and the files of the archive.
func namesTheImage(t *testing.T, bill *v2_3.Document, archive string) {
	t.Helper()
	_, _, digest, err := measure(archive)
	if err != nil {
		t.Fatal(err)
	}
	image := bill.Packages[0]
	hash := strings.TrimPrefix(digest, "sha256:")
	if image.PrimaryPackagePurpose != "CONTAINER" || len(image.PackageChecksums) != 1 || image.PackageChecksums[0].Value != hash {
		t.Errorf("the image is %+v, want one of digest %s", image, digest)
	}
	if want := "pkg:oci/" + image.PackageName + "@sha256%3A" + hash + "?arch="; !strings.HasPrefix(image.PackageExternalReferences[0].Locator, want) {
		t.Errorf("the purl is %s, want %s…", image.PackageExternalReferences[0].Locator, want)
	}
	if !strings.Contains(bill.DocumentNamespace, hash) {
		t.Errorf("two images would have one namespace: %s", bill.DocumentNamespace)
	}
	found := programs(t, archive)
	if len(found) != len(bill.Files) {
		t.Errorf("the bill has %d files, the image %d", len(bill.Files), len(found))
	}
	for _, f := range bill.Files {
		if sum := fmt.Sprintf("%x", sha256.Sum256(found[strings.TrimPrefix(f.FileName, "./")])); f.Checksums[1].Value != sum {
			t.Errorf("%s has the sum %s, want %s", f.FileName, f.Checksums[1].Value, sum)
		}
	}
}

// namesTheModules compares the bill with what the programs in the archive say, and with go.sum.
func namesTheModules(t *testing.T, bill *v2_3.Document, archive string, sums map[string]string) {
	t.Helper()
	packages := map[string]*v2_3.Package{}
	for _, p := range bill.Packages[1:] {
		packages[p.PackageName+" "+p.PackageVersion] = p
		if locator := p.PackageExternalReferences[0].Locator; !golangPURL.MatchString(locator) {
			t.Errorf("%s has the purl %s", p.PackageName, locator)
		}
	}
	wanted := map[string]bool{}
	for path, content := range programs(t, archive) {
		info, err := buildinfo.Read(bytes.NewReader(content))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		wanted[info.Main.Path+" v1.2.3"] = true
		wanted["stdlib "+strings.TrimPrefix(info.GoVersion, "go")] = true
		for _, m := range info.Deps {
			wanted[m.Path+" "+m.Version] = true
			p := packages[m.Path+" "+m.Version]
			if p == nil {
				t.Errorf("the bill lacks %s %s", m.Path, m.Version)
				continue
			}
			if want := "go.sum: " + sums[m.Path+" "+m.Version]; p.PackageSourceInfo != want {
				t.Errorf("%s says %q, want %q", m.Path, p.PackageSourceInfo, want)
			}
			if want := "pkg:golang/" + strings.ToLower(m.Path) + "@" + strings.ReplaceAll(m.Version, "+", "%2B"); p.PackageExternalReferences[0].Locator != want {
				t.Errorf("%s has the purl %s", m.Path, p.PackageExternalReferences[0].Locator)
			}
		}
		if len(info.Deps) < 5 {
			t.Errorf("%s tells of %d modules", path, len(info.Deps))
		}
	}
	for name := range packages {
		if !wanted[name] {
			t.Errorf("%s is in the bill and in no program", name)
		}
	}
}

// programs are the files of an archive.
func programs(t *testing.T, archive string) map[string][]byte {
	t.Helper()
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	reader := mutate.Extract(img)
	defer reader.Close()
	found := map[string][]byte{}
	for content := tar.NewReader(reader); ; {
		header, err := content.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if found[header.Name], err = io.ReadAll(content); err != nil {
			t.Fatal(err)
		}
	}
}

// readSums are the sums of modules by name and version.
func readSums(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) == 3 {
			sums[words[0]+" "+words[1]] = words[2]
		}
	}
	return sums
}

func TestReplacedModulesAreNamedByWhatIsLinked(t *testing.T) {
	info := &debug.BuildInfo{GoVersion: "go1.26.8", Deps: []*debug.Module{
		{Path: "example.com/A", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/B", Version: "v2.0.0+incompatible", Sum: "h1:x"}},
	}}
	all := dependencies(info)
	if len(all) != 2 || all[0].Name != "stdlib" || all[0].VersionInfo != "1.26.8" {
		t.Fatalf("got %+v", all)
	}
	if b := all[1]; b.Name != "example.com/B" || b.SourceInfo != "go.sum: h1:x" || b.ExternalRefs[0].Locator != "pkg:golang/example.com/b@v2.0.0%2Bincompatible" {
		t.Errorf("got %+v", b)
	}
}
