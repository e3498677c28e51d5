from sb3_gogepo.gogepo.gogepo import GoGePo
