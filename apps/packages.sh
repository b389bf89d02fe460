# What the project needs, how each piece is recognized, and what each package manager calls it.
# Sourced by setup.sh and doctor.sh; plain bash 3.2, so that a Mac can read it too.
#
# A dash: no package there; whoever needs the piece says where to put it.
#
# set    piece          found by                                   apt                  dnf              brew
PIECES='
base     compiler       command:c++                                g++                  gcc-c++          llvm
base     make           command:make                               make                 make             make
base     git            command:git                                git                  git              git
base     CMake          command:cmake                              cmake                cmake            cmake
base     Eigen          header:Eigen/Core,eigen3/Eigen/Core        libeigen3-dev        eigen3-devel     eigen
base     OpenMP         openmp                                     libgomp1             libgomp          libomp
base     Catch2         header:catch2/catch.hpp,catch2/catch_all.hpp  catch2            catch-devel      catch2
base     CLI11          header:CLI/CLI.hpp                         libcli11-dev         cli11-devel      cli11
base     nlohmann_json  header:nlohmann/json.hpp                   nlohmann-json3-dev   json-devel       nlohmann-json
base     zlib           header:zlib.h                              zlib1g-dev           zlib-devel       zlib
mpi      MPI            command:mpirun                             openmpi-bin          openmpi          open-mpi
mpi      MPI headers    header:mpi.h,mpi/mpi.h,openmpi-x86_64/mpi.h  libopenmpi-dev       openmpi-devel    open-mpi
python   venv           python:ensurepip                           python3-venv         python3          python
python   headers        python:headers                             python3-dev          python3-devel    python
clang    clang          command:clang++                            clang                clang            llvm
clang    llvm           command:llvm-symbolizer                    llvm                 llvm             llvm
clang    fuzzer         clang:libclang_rt.fuzzer-x86_64.a          libclang-rt-dev      compiler-rt      llvm
clang    libomp         clang:libomp.so                            libomp-dev           libomp-devel     libomp
format   clang-format   command:clang-format                       clang-format         clang-tools-extra  clang-format
docs     Doxygen        command:doxygen                            doxygen              doxygen          doxygen
docs     MathJax        file:/usr/share/javascript/mathjax/MathJax.js  libjs-mathjax    mathjax          -
docs     theme          file:/usr/share/doxygen-awesome-css/doxygen-awesome.css  doxygen-awesome-css  -  -
docs     Python         command:python3                            python3              python3          python3
'

# Is any of the headers (comma-separated) where the compiler looks, or under a prefix CMake was told of?
has_header() {
  local prefix flags=() tests=()
  IFS=':;' read -ra prefixes <<<"${CMAKE_PREFIX_PATH:-}"
  for prefix in "${prefixes[@]:-}"; do [ -z "$prefix" ] || flags+=("-I$prefix/include"); done
  for header in ${1//,/ }; do tests+=("!__has_include(<$header>) &&"); done
  printf '#if %s 1\n#error missing\n#endif\n' "${tests[*]}" |
    "${CXX:-c++}" -E -x c++ ${flags[@]+"${flags[@]}"} - >/dev/null 2>&1
}

# Does this library lie beside clang's own (Debian) or among the system's?
has_clang_library() {
  local path
  path=$(clang++ -print-file-name="$1" 2>/dev/null) && [ -e "$path" ] && return
  path=$(dirname "$(readlink -f "$(command -v clang++)")")/../lib
  [ -n "$(find -L "$path" -maxdepth 5 -name "$1" 2>/dev/null | head -n 1)" ]
}

has_piece() {
  case $1 in
    command:c++) command -v "${CXX:-c++}" ;;
    command:*) command -v "${1#command:}" ;;
    file:*) [ -e "${1#file:}" ] ;;
    header:*) has_header "${1#header:}" ;;
    clang:*) command -v clang++ && has_clang_library "${1#clang:}" ;;
    python:ensurepip) "${PYTHON:-python3}" -c 'import ensurepip, venv' ;;
    python:headers) "${PYTHON:-python3}" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' ;;
    openmp) has_header omp.h || ls /opt/homebrew/opt/libomp /usr/local/opt/libomp ;;
  esac >/dev/null 2>&1
}

package_manager() {
  for manager in apt-get dnf brew; do
    if command -v $manager >/dev/null; then echo $manager; return; fi
  done
  echo none
}

# missing_packages MANAGER SET...: the packages of these sets that are not there, each once.
missing_packages() {
  local manager=$1 wanted=" ${*:2} "
  while read -r set piece test apt dnf brew; do
    case $wanted in *" $set "*) ;; *) continue ;; esac
    has_piece "$test" && continue
    case $manager in apt-get) echo "$apt" ;; dnf) echo "$dnf" ;; *) echo "$brew" ;; esac
  done <<<"$(grep . <<<"$PIECES")" | awk '$0 != "-" && !seen[$0]++'
}

install_command() {
  case $1 in
    apt-get) echo "apt-get install --yes --no-install-recommends" ;;
    dnf) echo "dnf install -y" ;;
    brew) echo "brew install" ;;
  esac
}

is_root() { [ "$(id -u)" = 0 ]; }
