#!/bin/sh
# What is in this system, as SPDX 2.3 in JSON: sbom.sh VERSION CREATED. Debian's packages with their versions, and
# headlight itself.
set -eu
version=$1 created=$2
id='[^A-Za-z0-9.-]'
dpkg-query -W -f='${Package}\t${Version}\t${Architecture}\n' | awk -F '\t' -v version="$version" -v created="$created" -v bad="$id" '
  function package(name, of_version, supplier, locator) {
    ref = name; gsub(bad, "-", ref)
    printf "%s\n  {\"SPDXID\":\"SPDXRef-%s\",\"name\":\"%s\",\"versionInfo\":\"%s\",\"supplier\":\"%s\",", separator, ref, name, of_version, supplier
    printf "\"downloadLocation\":\"NOASSERTION\",\"filesAnalyzed\":false"
    if (locator != "") printf ",\"externalRefs\":[{\"referenceCategory\":\"PACKAGE-MANAGER\",\"referenceType\":\"purl\",\"referenceLocator\":\"%s\"}]", locator
    printf "}"
    separator = ","
  }
  BEGIN {
    printf "{\"spdxVersion\":\"SPDX-2.3\",\"dataLicense\":\"CC0-1.0\",\"SPDXID\":\"SPDXRef-DOCUMENT\",\"name\":\"headlight-%s\",", version
    printf "\"documentNamespace\":\"https://spdx.org/spdxdocs/headlight-%s-%s\",", version, created
    printf "\"creationInfo\":{\"created\":\"%s\",\"creators\":[\"Tool: headlight-sbom\"]},\"packages\":[", created
    package("headlight", version, "NOASSERTION", "")
  }
  # Of names and versions a purl takes no + or : as they are.
  { locator = $1 "@" $2; gsub(/[+]/, "%2B", locator); gsub(/:/, "%3A", locator) }
  { package($1, $2, "Organization: Debian", "pkg:deb/debian/" locator "?arch=" $3) }
  END { printf "\n],\"documentDescribes\":[\"SPDXRef-headlight\"]}\n" }'
