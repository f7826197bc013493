// SPDX-License-Identifier: Apache-2.0

// Command sitecheck looks at a site in a folder, as hack/site.sh makes it of docs/.
//
// In: the folder. Out: nothing, or what is wrong with it: a link or an anchor that leads nowhere, a page that nobody finds from the
// first one, one that is not at the side, a picture, script or style of another host, a path that only works at the root of a host.
//
// It is a module of its own, for the parser of HTML.
package main
