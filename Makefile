# The front door: `make` prints the menu. Every verb does the set-up it needs; CMake does the building.

.DEFAULT_GOAL := menu
VERBS := $(shell sed -n 's/^\([a-z-]*\):.*\#\#.*/\1/p' Makefile)
VARIABLES := TEXT STEPS OUT SEED DEVICE PRECISION PRESET ATTENTION POSITION DATA PROMPT TOKENS THREADS PORTABLE PEERS SECONDS KILLS MUTANTS PREFIX N PYTHON TORCH

given := $(strip $(foreach v,$(.VARIABLES),$(if $(findstring command line,$(origin $v)),$(filter-out -*,$v))))
unknown := $(firstword $(filter-out $(VARIABLES),$(given)))
ifneq ($(unknown),)
  meant := $(shell bash apps/nearest.sh '$(unknown)' $(VARIABLES))
  $(error No variable is called $(unknown)$(if $(meant), (did you mean $(meant)?)). Known: $(VARIABLES))
endif

lesson := $(if $(filter 1 2 3 4 5 6 7 8 9,$N),0)$N
not_number := $(firstword $(foreach v,STEPS SEED TOKENS THREADS SECONDS KILLS,$(if $($v),$(if $(shell echo '$(subst ','"'"',$($v))' | grep -Eqx '[0-9]+' || echo no),$v))))
ifneq ($(not_number),)
  $(error $(not_number)='$($(not_number))' is not a whole number)
endif

ifeq ($(origin OUT),undefined)
  OUT := runs/$(or $(PRESET),toy)
  compare: OUT := runs/compare
  parity: OUT := build/parity.json
  tutorial: OUT := runs/tutorial_$(lesson)
  bench: OUT := docs/results/$(shell date +%F)-cpu$(if $(PORTABLE),-x86-64-v3)
endif
ifdef THREADS
  export OMP_NUM_THREADS := $(THREADS)
endif
# Recipes read the variables from their environment, so that paths may hold spaces.
export $(foreach v,$(VARIABLES),$(if $($v),$v))
unexport MAKEFLAGS

cores := $(shell getconf _NPROCESSORS_ONLN)
flag = $${$1:+--$2 "$$$1"}
device = $(call flag,DEVICE,device) $(call flag,PRECISION,precision)
choices = $(call flag,STEPS,steps) $(call flag,SEED,seed) $(call flag,PRESET,preset) $(call flag,DATA,data) $(device)

# $(call configure,FOLDER,FLAGS) does nothing where it was done; $(call compile,FOLDER,TARGETS).
configure = [ -e $1/Makefile ] || [ -e $1/build.ninja ] || cmake -S . -B $1 $2 >&2
compile = MAKELEVEL=0 cmake --build $1 --parallel $(cores) --target $2 >&2
comma := ,
native = -DLAZY_NATIVE=ON
bench_build = $(if $(PORTABLE),build/portable,build)
checked = -DLAZY_CUDA=OFF -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG='-O2 -g1'
archer = $$(dirname "$$(readlink -f "$$(command -v clang++)")")/../lib/libarcher.so
run = cd $1 && ctest --label-regex $2 --parallel $(cores) --output-on-failure --no-tests=error

.PHONY: $(VERBS) menu ready clang tool given-text given-model given-lesson
.NOTPARALLEL:
menu:
	@echo 'Lazy Attention: attention that may look away. Every verb sets up and builds what it needs.'; echo
	@sed -n 's/^\([a-z-]*\):.*\#\# \(.*\)/\1|\2/p' Makefile | awk -F '|' '{ printf "  make %-11s %s\n", $$1, $$2 }'
	@echo; echo '  For example: make train TEXT=my.txt STEPS=500 OUT=runs/mine'
	@echo '  Variables:   $(VARIABLES)'

ready:
	@bash apps/setup.sh
clang:
	@bash apps/setup.sh clang
tool: ready
	@$(call configure,build,$(native))
	@$(call compile,build,lazy)
given-text:
	@[ -z "$$TEXT" ] || [ -e "$$TEXT" ] || { echo "TEXT=$$TEXT does not exist here ($$PWD). A file or a folder is needed, or leave TEXT away." >&2; exit 2; }
given-model:
	@[ -e "$$OUT" ] || { echo "There is no model in OUT=$$OUT. Train one first: make train OUT=$$OUT" >&2; exit 2; }
given-lesson:
	@[ -d "$(wildcard tutorials/$(lesson)_*)" ] || { echo "N='$N' is not a tutorial. Choose one, as N=1:" >&2; cd tutorials && ls -d [0-9]*_* >&2; exit 2; }

setup:       ## install what the build needs, fetch the text to train on
	@bash apps/setup.sh --report
doctor:      ## what this machine has, and what each missing piece takes
	@bash apps/doctor.sh
build: ready ## the tool and the tests
	@$(call configure,build,$(native))
	@$(call compile,build,all)
train: given-text tool ## train a model: TEXT STEPS OUT SEED DEVICE PRECISION PRESET ATTENTION POSITION DATA
	@text="$$TEXT"; [ -n "$$TEXT$$DATA" ] || [ "$$PRESET" = backcopy ] || [ ! -s data/bible.txt ] || text=data/bible.txt; \
	build/lazy train $${text:+--text "$$text"} --out "$$OUT" $(choices) $(call flag,ATTENTION,attention) $(call flag,POSITION,position)
resume: given-model tool ## go on training in OUT, up to STEPS in all, on any DEVICE
	@build/lazy train --resume "$$OUT" $(call flag,STEPS,steps) $(device)
generate: given-model tool ## let the model in OUT write: PROMPT TOKENS SEED DEVICE PRECISION
	@build/lazy generate --model "$$OUT" $(device) $(call flag,PROMPT,prompt) $(call flag,TOKENS,tokens) $(call flag,SEED,seed)
inspect: given-text given-model tool ## tables and report of the model in OUT, on TEXT
	@build/lazy inspect --model "$$OUT" $(call flag,TEXT,text)
compare: given-text tool ## train several kinds alike, one table: ATTENTION=lazy,softmax TEXT DATA PRESET STEPS SEED
	@build/lazy compare $(call flag,TEXT,text) $(choices) $(call flag,ATTENTION,contenders) --out "$$OUT"
bench: ready ## validate, then time against this machine's peak and PyTorch: PORTABLE=1 THREADS PEERS OUT
	@$(call configure,$(bench_build),$(if $(PORTABLE),-DLAZY_TESTS=OFF -DLAZY_CUDA=OFF,$(native)))
	@$(call compile,$(bench_build),lazy)
	@$(bench_build)/lazy bench $(call flag,THREADS,threads) $(call flag,PEERS,peers) --out "$$OUT"
parity: ready ## kernels against float64, on the GPU if there is one, else emulated: OUT SEED
	@$(call configure,build,$(native))
	@$(call compile,build,lazy_parity)
	@build/lazy_parity $(call flag,SEED,seed) --commit "$$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)" --out "$$OUT"
tutorial: given-lesson ready ## run tutorial N: OUT for its pictures, STEPS where it trains; where to begin: tutorials/README.md
	@$(call configure,build,$(native))
	@$(call compile,build,tutorial_$(lesson))
	@mkdir -p "$$OUT" && build/tutorials/tutorial_$(lesson) "$$OUT" $$STEPS && echo && echo "pictures: $$OUT; the page: $(wildcard tutorials/$(lesson)_*)/README.md; then: make exercise N=$N"
exercise: given-lesson ready ## grade the exercise of tutorial N
	@$(call configure,build,$(native))
	@$(call compile,build,exercise_$(lesson))
	@build/tutorials/exercise_$(lesson)

test: build  ## the tests that everybody runs, in minutes
	@$(call run,build,'quick|quality|kernels|tutorial')
test-full: build ## every test, the slow ones and the installed package too
	@cd build && ctest --parallel $(cores) --output-on-failure --no-tests=error
	@build/lazy_tests --durations yes '[full]'
python:      ## the Python package in build/venv; TORCH=yes with PyTorch (see python/README.md)
	@bash apps/setup.sh python
	@bash python/environment.sh
test-python: tool python ## types and tests of the Python package
	@OMP_WAIT_POLICY=passive build/venv/bin/python -m pytest
notebooks: tool python ## run every notebook; the results are in build/notebooks
	@build/venv/bin/python notebooks/run.py
asan: ready  ## the quick tests under AddressSanitizer and UBSan
	@$(call configure,build/asan,-DLAZY_SANITIZE=address$(comma)undefined $(checked))
	@$(call compile,build/asan,lazy_tests)
	@$(call run,build/asan,quick)
tsan: clang  ## the threaded tests under ThreadSanitizer (clang, libomp, Archer)
	@$(call configure,build/tsan,-DLAZY_SANITIZE=thread -DCMAKE_CXX_COMPILER=clang++ $(checked))
	@$(call compile,build/tsan,lazy_tests)
	@TSAN_OPTIONS=ignore_noninstrumented_modules=1 OMP_TOOL_LIBRARIES="$(archer)" build/tsan/lazy_tests '[determinism]'
fuzz: clang  ## feed each parser broken files for SECONDS
	@tests/fuzz/run
test-processes: ready ## one model trained by two processes (MPI), against one process
	@bash apps/setup.sh mpi
	@cmake -S . -B build $(if $(wildcard build/Makefile build/build.ninja),,$(native)) >&2
	@$(call compile,build,two_processes train_together)
	@$(call run,build,processes)
chaos: tool  ## kill -9 while saving, KILLS times
	@tests/chaos/run $(KILLS)
mutants: ready ## break the sources, one patch at a time: the tests must notice
	@tests/mutants/run $(MUTANTS)
format:      ## clang-format over all C++ and CUDA
	@bash apps/setup.sh format
	@git ls-files '*.cpp' '*.hpp' '*.cu' 'cuda/*.h' | tr '\n' '\0' | xargs -0 clang-format -i
docs:        ## the documentation as pages: build/docs/html/index.html
	@bash apps/setup.sh docs
	@docs/doxygen/build
install: tool ## the tool and the library into PREFIX (default /usr/local)
	@cmake --install build --prefix "$${PREFIX:-/usr/local}"
clean:       ## remove what was built; runs/ and data/ stay
	@rm -rf build

.DEFAULT:
	@meant=$$(bash apps/nearest.sh '$@' $(VERBS)); echo "make has no verb '$@'$${meant:+ (did you mean $$meant?)}; make alone prints them" >&2; exit 2
