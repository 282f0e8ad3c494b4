# Installs the C++ client from BUILD, builds the example against it in FOLDER and asks SERVER with it.
file(REMOVE_RECURSE ${FOLDER})
function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY OUTPUT_VARIABLE output)
  set(output ${output} PARENT_SCOPE)
endfunction()
run(${CMAKE_COMMAND} --install ${BUILD} --component client --prefix ${FOLDER}/prefix)
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${FOLDER}/build -G Ninja -D CMAKE_PREFIX_PATH=${FOLDER}/prefix
  -D CMAKE_CXX_FLAGS=${FLAGS})
run(${CMAKE_COMMAND} --build ${FOLDER}/build)
run(${CMAKE_CURRENT_LIST_DIR}/run_example ${SERVER} ${FOLDER}/build/example ${FOLDER})
if(NOT output MATCHES "the last of 32 tokens attends most to key [0-9]+ \\(0\\.[0-9]+\\)")
  message(FATAL_ERROR "the example said: ${output}")
endif()
