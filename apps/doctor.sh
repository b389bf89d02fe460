#!/usr/bin/env bash
# A table of what this machine has and what each missing piece takes. Exit 0 if the CPU path can be built.
set -u
cd "$(dirname "$0")/.."
. apps/packages.sh

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then green=$'\e[32m' red=$'\e[31m' grey=$'\e[90m' plain=$'\e[0m'; else green= red= grey= plain=; fi
works=yes

# row MARK PIECE WHAT [FIX]; marks: ok, missing (the CPU path needs it), none (optional)
row() {
  local color=$green
  [ "$1" = missing ] && color=$red works=no
  [ "$1" = none ] && color=$grey
  printf '%s%-8s%s %-14s %s\n' "$color" "$1" "$plain" "$2" "$3"
  [ -z "${4:-}" ] || printf '%-24s%sto fix:%s %s\n' '' "$grey" "$plain" "$4"
}

fix() {  # the one command that installs the package of a piece
  local manager package
  manager=$(package_manager)
  package=$(awk -v p="$1" -v m="$manager" '$2 == p { print m == "apt-get" ? $4 : m == "dnf" ? $5 : $6 }' <<<"$PIECES")
  case $manager in
    none) echo "install $1 with this system's package manager" ;;
    brew) echo "$(install_command brew) $package" ;;
    *) if is_root; then echo make setup; else echo "sudo $(install_command "$manager") $package"; fi ;;
  esac
}

# The value of macros after including a header, joined by dots: version_of Eigen/Core EIGEN_WORLD_VERSION ...
version_of() {
  local header=$1
  shift
  printf '#include <%s>\nversion_is %s\n' "$header" "$*" | "${CXX:-c++}" -std=c++20 -E -P -x c++ - 2>/dev/null |
    awk '/^version_is/ { sub(/^version_is */, ""); gsub(/"/, ""); gsub(/ +/, "."); print }'
}

at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# check PIECE OLDEST FOUND: "" as FOUND means not there
check() {
  if [ -z "$3" ]; then row missing "$1" "not found" "$(fix "$1")"
  elif ! at_least "$2" "$3"; then row missing "$1" "$3 is too old, $2 or newer is needed" "use a newer system release, such as Debian 12 or Ubuntu 22.04"
  else row ok "$1" "$3"; fi
}

first_version() { grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1; }
program_version() { command -v "$1" >/dev/null && "$1" "${2:---version}" 2>/dev/null | first_version; }

check compiler 11 "$("${CXX:-c++}" -dumpfullversion -dumpversion 2>/dev/null)"
check make 3.81 "$(program_version make)"
check CMake 3.22 "$(program_version cmake)"
eigen=eigen3/Eigen/src/Core/util/Macros.h
has_header $eigen || eigen=Eigen/src/Core/util/Macros.h
check Eigen 3.4 "$(version_of $eigen EIGEN_WORLD_VERSION EIGEN_MAJOR_VERSION EIGEN_MINOR_VERSION)"
if has_piece openmp; then row ok OpenMP "$(getconf _NPROCESSORS_ONLN) threads"; else row missing OpenMP "not found" "$(fix OpenMP)"; fi
catch=catch2/catch.hpp
has_header $catch || catch=catch2/catch_version_macros.hpp
check Catch2 2.13 "$(version_of $catch CATCH_VERSION_MAJOR CATCH_VERSION_MINOR CATCH_VERSION_PATCH)"
check CLI11 1.9 "$(version_of CLI/Version.hpp CLI11_VERSION)"
check nlohmann_json 3.10 "$(version_of nlohmann/json.hpp NLOHMANN_JSON_VERSION_MAJOR NLOHMANN_JSON_VERSION_MINOR NLOHMANN_JSON_VERSION_PATCH)"
check zlib 1.2 "$(version_of zlib.h ZLIB_VERSION)"

if [ "$(uname -m)" = x86_64 ] && [ -r /proc/cpuinfo ]; then
  if grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo; then row ok processor "x86-64-v3"
  else row missing processor "older than x86-64-v3 (no AVX2)" "cmake -S . -B build -DLAZY_MARCH=x86-64"; fi
fi
if [ -s data/bible.txt ]; then row ok text "data/bible.txt, $(wc -c <data/bible.txt | tr -d ' ') bytes"
else row none text "no data/bible.txt: training uses the built-in tales" "make setup"; fi
python=$(program_version python3)
if [ -n "$python" ]; then row ok Python "$python"; else row none Python "not found; make docs, the notebooks and the checks of the documentation need it"; fi

nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
if [ -n "$nvcc" ]; then row ok "CUDA toolkit" "$("$nvcc" --version | grep -oE 'release [0-9.]+' | cut -d' ' -f2)"
else row none "CUDA toolkit" "not found; only GPUs need it" "install CUDA 12 or newer from NVIDIA's packages"; fi
if nvidia-smi >/dev/null 2>&1; then
  row ok driver "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)"
  nvidia-smi --query-gpu=index,name,memory.total,compute_cap --format=csv,noheader |
    while IFS= read -r gpu; do row ok "GPU ${gpu%%,*}" "${gpu#*, }"; done
else
  row none driver "no NVIDIA driver, so no GPU: everything runs on the CPU"
fi

if [ $works = yes ]; then echo "The CPU path works: make train"; else echo "The CPU path does not work yet: see what is missing above."; exit 1; fi
