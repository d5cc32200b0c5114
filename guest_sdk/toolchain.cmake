# For CMake: cmake -DCMAKE_TOOLCHAIN_FILE=path/to/guest_sdk/toolchain.cmake ...
# -DSDK_PYTHON=... names the Python that has ziglang, if it is not the first python3.

set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR wasm32)

if(NOT SDK_PYTHON)
  find_program(SDK_PYTHON python3 REQUIRED)
endif()
# try_compile runs this file again, in a project of its own.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES SDK_PYTHON)

set(CMAKE_C_COMPILER "${SDK_PYTHON}" "${CMAKE_CURRENT_LIST_DIR}/cc.py")
set(CMAKE_CXX_COMPILER "${SDK_PYTHON}" "${CMAKE_CURRENT_LIST_DIR}/cc.py" --c++)

foreach(language C CXX)
  set(CMAKE_${language}_ARCHIVE_CREATE "\"${SDK_PYTHON}\" -m ziglang ar qc <TARGET> <OBJECTS>")
  set(CMAKE_${language}_ARCHIVE_APPEND "\"${SDK_PYTHON}\" -m ziglang ar q <TARGET> <OBJECTS>")
  set(CMAKE_${language}_ARCHIVE_FINISH "\"${SDK_PYTHON}\" -m ziglang ranlib <TARGET>")
endforeach()

set(CMAKE_EXECUTABLE_SUFFIX_C .wasm)
set(CMAKE_EXECUTABLE_SUFFIX_CXX .wasm)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(UNIX TRUE)
