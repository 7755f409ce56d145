#!/bin/sh
# The tests of DICOMweb need Orthanc. Install it from the distribution where that is allowed; else say the one command.
# The tests start and stop it themselves: no service is left running.
there() { command -v Orthanc >/dev/null 2>&1 && ls /usr/share/orthanc/plugins/libOrthancDicomWeb.so* >/dev/null 2>&1; }
there && exit 0
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    as_root="none"
fi
if [ "$as_root" != none ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Orthanc for the tests of DICOMweb ..."
    was_there=$(command -v Orthanc || true)
    $as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq orthanc orthanc-dicomweb >/dev/null
    if [ -z "$was_there" ] && [ -d /run/systemd/system ]; then
        $as_root systemctl disable --now orthanc >/dev/null 2>&1 || true
    fi
fi
there && exit 0
echo "The tests of DICOMweb need Orthanc. Install it with: sudo apt-get install -y orthanc orthanc-dicomweb" >&2
[ "${CI:-}" = true ] && exit 1
exit 0
