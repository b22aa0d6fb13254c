# llama.cpp forces its common library, half of the build, on for Python bindings, which do not use it.
set(LLAMA_BUILD_COMMON OFF)
